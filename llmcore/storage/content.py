"""What content is called: canonical JSON and SHA-256."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

__all__ = ["CHUNK_BYTES", "FileEntry", "canonical_json", "chunks", "content_hash", "parsed_json", "plain_number"]
__all__ += ["readable_json"]

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class FileEntry:
    """A written file: its name in the folder, bytes, and SHA-256 in hex."""

    name: str
    size: int
    sha256: str


def plain_number(value: Any) -> Any:
    """Numbers of numpy and torch as Python's own; anything else is a mistake of the caller."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON: {value!r}")


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a value: keys sorted, no blanks, UTF-8. Raises ValueError for NaN and infinities."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=plain_number
    )
    return text.encode()


def readable_json(value: Any) -> bytes:
    """JSON that a person can read and `diff` can compare: indented, keys in the order given, one newline at the end."""
    return (json.dumps(value, indent=2, ensure_ascii=False, default=plain_number) + "\n").encode()


def parsed_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError, also for what is nested deeper than any record."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def content_hash(*parts: Any) -> str:
    """SHA-256 in hex of the canonical JSON of `parts`: the name of what they determine."""
    return hashlib.sha256(canonical_json(parts)).hexdigest()


def chunks(file: BinaryIO) -> Iterator[bytes]:
    """A binary file's bytes, a mebibyte at a time: a file of any size is hashed or copied in constant memory."""
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
