"""Lines of JSON in parts: object stores cannot append, and a long run must not leave a file for each line."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from llmcore.redaction import redacted
from llmcore.storage import Folder
from llmcore.storage.content import parsed_json, plain_number

__all__ = ["PartsWriter", "read_part"]

_LINES_PER_PART = 256


class PartsWriter:
    """Writes lines as `part-00000.jsonl`, …; one writer at a time. A later one goes on with the next part.

    The last part is written anew until it has 256 lines; what was written long ago is left alone.
    """

    def __init__(self, folder: Folder, of: str = "") -> None:
        """`of` begins the names of its parts, which no other writer of the folder has."""
        self._folder = folder
        self._of = of
        self._lines: list[bytes] = []
        self._unwritten = False
        self._part: int | None = None

    @property
    def is_full(self) -> bool:
        """Whether the part should be written now, so that the next line begins another."""
        return len(self._lines) >= _LINES_PER_PART

    def add(self, row: Mapping[str, Any], *, written: bool = False) -> None:
        """Add a line, plain numbers and words without credentials.

        One that counts as `written` is no reason to write a part.
        """
        self._lines.append(json.dumps(redacted(row), ensure_ascii=False, default=plain_number).encode() + b"\n")
        self._unwritten = self._unwritten or not written

    def flush(self) -> None:
        """Write what has not been written. Raises StorageError; the lines are kept, and the next flush tries again."""
        if not self._unwritten:
            return
        if self._part is None:
            self._part = sum(name.startswith(f"{self._of}part-") for name in self._folder.names())
        self._folder.write_bytes(f"{self._of}part-{self._part:05d}.jsonl", b"".join(self._lines))
        self._unwritten = False
        if self.is_full:
            self._part, self._lines = self._part + 1, []


def read_part(folder: Folder, name: str) -> Iterator[dict[str, Any] | None]:
    """The rows of a part, in order; None for a line that is none."""
    for line in folder.read_bytes(name).splitlines():
        try:
            row = parsed_json(line)
        except ValueError:
            row = None
        yield row if isinstance(row, dict) else None
