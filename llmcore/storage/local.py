"""Local files written the way object stores write objects: whole, or not at all.

An object store never shows half an object; a disk does, when a process is killed or the disk is full. Single records
(`end.json`, `heartbeat.json`) have no manifest to prove them, so on a disk they are written beside and moved into
place. Nothing above this module knows, and nothing published relies on it: that is proved by manifests.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

__all__ = ["create", "is_temporary", "replacing", "temporary_beside"]

_PREFIX = ".tmp-"


def is_temporary(name: str) -> bool:
    """Whether a path in a folder belongs to an unfinished write; left by a killed process, it is never listed."""
    return any(part.startswith(_PREFIX) for part in name.split("/"))


def temporary_beside(path: Path) -> Path:
    """An unused name on the same file system as `path`; its parent exists afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(_PREFIX + uuid4().hex)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block ends well, and vanishes when it does not."""
    beside = temporary_beside(path)
    try:
        with beside.open("xb") as file:
            yield file
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def create(path: Path, data: bytes) -> bool:
    """Write `path` if it is not there, exclusively and whole; False when it is."""
    beside = temporary_beside(path)
    try:
        beside.write_bytes(data)
        try:
            os.link(beside, path)  # Exclusive like O_EXCL, and never seen half written.
        except FileExistsError:
            return False
        except OSError:  # A file system without hard links: exclusive all the same.
            try:
                with path.open("xb") as file:
                    file.write(data)
            except FileExistsError:
                return False
        return True
    finally:
        beside.unlink(missing_ok=True)
