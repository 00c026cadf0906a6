"""Real data that lies outside the project, in the folder that LLMCORE_DATA names."""

import os
from pathlib import Path

from llmcore.errors import UserError

__all__ = ["shared_data"]


def shared_data(*needed: str) -> Path:
    """The folder. Raises UserError where it has not all of the files needed."""
    root = os.environ.get("LLMCORE_DATA")
    if not root or not all(Path(root, name).exists() for name in needed):
        raise UserError(
            f"this benchmark reads {', '.join(needed)} below the folder that LLMCORE_DATA names: got {root!r}"
        )
    return Path(root)
