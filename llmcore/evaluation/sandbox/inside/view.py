"""The files that a program sees: Python's library and the system's, read-only, and nothing else of the host."""

import os
import sys
from pathlib import Path

from llmcore.evaluation.sandbox.inside.libc import (
    MS_BIND,
    MS_NODEV,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    mount,
    pivot_root,
    read_only,
    unmount,
)

__all__ = ["SCRATCH", "change_view"]

SCRATCH = "/sandbox"
_HOST = "/.host"
_SHARED_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo")


def change_view() -> None:
    """Make a new root of this mount namespace. There is no /proc in it, so no process of the host has a name there."""
    # Where a library lies behind links, it is shown at the path by which the interpreter knows it.
    shown = {path: path.resolve() for path in _shown()}
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    # Any folder that is surely there; the mount is moved away from it, to the root.
    base = "/proc"
    mount("view", base, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,nr_inodes=256,mode=755")
    Path(base + _HOST).mkdir()
    pivot_root(base, base + _HOST)
    os.chdir("/")
    for path, real in shown.items():
        path.mkdir(parents=True, exist_ok=True)
        mount(f"{_HOST}{real}", str(path), None, MS_BIND | MS_REC)
    null = Path("/dev/null")
    null.parent.mkdir(exist_ok=True)
    null.touch()
    mount(f"{_HOST}{null}", str(null), None, MS_BIND)
    Path(SCRATCH).mkdir()
    unmount(_HOST)
    Path(_HOST).rmdir()
    read_only("/")


def _shown() -> list[Path]:
    """Folders to show, none of them below another."""
    paths = [Path(path).absolute() for path in (*_SHARED_LIBRARIES, *sys.path)]
    found = sorted({*paths, *(Path(sys.base_prefix, name) for name in ("lib", "lib64"))})
    return [path for path in found if path.is_dir() and not any(above in path.parents for above in found)]
