"""Where tests of the sandbox can run."""

import subprocess
import sys

import pytest

__all__ = ["needs_namespaces"]


def _namespaces_allowed() -> str | None:
    """Why not, asked of a tool that is not ours: a sandbox that is broken has to fail, not to skip."""
    if sys.platform != "linux":
        return "the sandbox needs Linux"
    command = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--net", "--fork", "true"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        return "there is no `unshare` to ask whether user namespaces are allowed"
    return None if asked.returncode == 0 else f"this machine allows no user namespaces: {asked.stderr.strip()}"


_reason = _namespaces_allowed()
needs_namespaces = pytest.mark.skipif(_reason is not None, reason=str(_reason))
