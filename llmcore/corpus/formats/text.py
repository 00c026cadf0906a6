"""Plain text: a document a file, a line, or a block between blank lines."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from llmcore.config.prepare import TextUnit
from llmcore.corpus.formats.base import MAX_CHARACTERS, check_there, in_tables
from llmcore.corpus.formats.opened import COMPRESSIONS, lines_of, opened_text, reading
from llmcore.errors import BadShardError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Text"]


class Text:
    """UTF-8 with the columns `text` and `file`: a key that keeps what stands in one file together.

    `file` is the name that the shard has in its source, wherever that lies.
    """

    suffixes: tuple[str, ...] = tuple(f".txt{compression}" for compression in COMPRESSIONS)
    _COLUMNS = ("text", "file")

    def __init__(self, unit: TextUnit, name: str) -> None:
        self._unit, self._name = unit, name

    def columns(self, url: str) -> list[str] | None:
        """Always the same; None for a file without a document."""
        with reading(url):
            return list(self._COLUMNS) if next(self._documents(url), None) is not None else None

    def tables(self, url: str, wanted: Sequence[str], texts: Sequence[str] = ()) -> Iterator["pa.Table"]:
        """Document by document; lines and blocks without a character but white space are none."""
        check_there(url, wanted, self._COLUMNS)
        yield from in_tables(self._rows(url), wanted)

    def _rows(self, url: str) -> Iterator[tuple[Mapping[str, str | None], int]]:
        with reading(url) as row:
            for text in self._documents(url):
                yield {"text": text, "file": self._name}, len(text)
                row.at += 1

    def _documents(self, url: str) -> Iterator[str]:
        with opened_text(url) as file:
            if self._unit == "file":
                text = file.read(MAX_CHARACTERS + 1)
                if len(text) > MAX_CHARACTERS:
                    raise BadShardError(f"{url}: has more than {MAX_CHARACTERS:,} characters, which is no document")
                if text.strip():
                    yield text
                return
            block: list[str] = []
            for line in lines_of(url, file):
                blank = not line.strip()
                if not blank:
                    block.append(line)
                if block and (blank or self._unit == "line"):
                    yield "".join(block).rstrip("\n")
                    block = []
            if block:
                yield "".join(block).rstrip("\n")
