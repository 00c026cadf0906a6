"""What a storage does for the process that asks, operation by operation."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from llmcore.errors import StorageError
from llmcore.storage.folder import Folder
from llmcore.storage.retries import within

__all__ = ["Tried", "try_out"]

_EACH_WITHIN_S = 5.0
_DATA = b"tried out\n"


@dataclass(frozen=True)
class Tried:
    """One operation: how long it took, and its trouble in a sentence; empty where it did what it should."""

    operation: str
    seconds: float
    trouble: str


def try_out(folder: Folder) -> list[Tried]:
    """Write, read, list, create exclusively and delete a file of a new name in a folder; nothing of it stays.

    Exclusive creation is in order where the storage itself refuses a second one: `Folder.create_bytes` looks whether
    the file is there, and between that and its writing only the storage's own refusal tells two writers apart.
    Raises nothing for a storage that cannot be used: that is what it tells.
    """
    name, once = f"tried-{uuid4().hex}", f"tried-once-{uuid4().hex}"
    operations: dict[str, Callable[[], str]] = {
        "write": lambda: _written(folder, name),
        "read": lambda: "" if folder.read_bytes(name) == _DATA else f"{folder.url}/{name} reads as other bytes",
        "list": lambda: "" if name in folder.names() else f"{folder.url} does not list what has been written there",
        "create": lambda: _created_once(folder, once),
        "delete": lambda: _deleted(folder, (name, once)),
    }
    return [_tried(operation, work) for operation, work in operations.items()]


def _tried(operation: str, work: Callable[[], str]) -> Tried:
    began = time.monotonic()
    try:
        with within(_EACH_WITHIN_S):
            trouble = work()
    except StorageError as error:
        trouble = str(error)
    return Tried(operation, time.monotonic() - began, trouble)


def _written(folder: Folder, name: str) -> str:
    folder.write_bytes(name, _DATA)
    return ""


def _created_once(folder: Folder, name: str) -> str:
    if not folder.create_unseen(name, b"first"):
        return f"{folder.url} refuses to create a file that is not there"
    if folder.create_unseen(name, b"second"):
        return f"{folder.url} replaces a file where it is asked to create it only if it is absent"
    return ""


def _deleted(folder: Folder, names: tuple[str, ...]) -> str:
    for name in names:
        folder.delete(name)
    left = set(names) & set(folder.names())
    return f"{folder.url} still lists what has been deleted" if left else ""
