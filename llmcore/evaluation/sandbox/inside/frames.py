"""Messages between the runner and the keeper: JSON after its length."""

import json
import os
import struct
from typing import Any

__all__ = ["read_frame", "write_frame"]

_LENGTH = struct.Struct(">I")


def read_frame(descriptor: int) -> Any:
    """The next message; None at the end."""
    head = _read(descriptor, _LENGTH.size)
    return None if head is None else json.loads(_read(descriptor, _LENGTH.unpack(head)[0]) or b"null")


def write_frame(descriptor: int, message: Any) -> None:
    """Send `message`, plain JSON (lone surrogates, which models do write, go through)."""
    content = json.dumps(message).encode()
    rest = memoryview(_LENGTH.pack(len(content)) + content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _read(descriptor: int, size: int) -> bytes | None:
    parts = []
    while size:
        part = os.read(descriptor, size)
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
