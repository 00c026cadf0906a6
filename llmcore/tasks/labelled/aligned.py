"""Aligned text: files side by side, each a column, in which line n of each belongs together."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from llmcore.corpus.formats.base import in_tables
from llmcore.corpus.formats.opened import lines_of, opened_text, reading
from llmcore.errors import BadShardError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["aligned_tables"]


def aligned_tables(urls: Mapping[str, str], wanted: Sequence[str]) -> Iterator["pa.Table"]:
    """The wanted columns of files by column, some thousand rows at a time; an empty line is an empty text.

    Raises BadShardError where one has more lines than another; the message has the numbers of both.
    """
    yield from in_tables(_rows(urls), wanted)


def _rows(urls: Mapping[str, str]) -> Iterator[tuple[Mapping[str, str | None], int]]:
    rows = zip_longest(*map(_lines, urls.values()))
    for number, texts in enumerate(rows):
        if None in texts:
            raise BadShardError(_unaligned(urls, number, texts, rows))
        yield dict(zip(urls, texts, strict=True)), sum(map(len, texts))


def _lines(url: str) -> Iterator[str]:
    """A line ends with a line feed alone: whatever else a text has in it divides no row."""
    with reading(url) as row, opened_text(url, newline="\n") as file:
        for line in lines_of(url, file):
            yield line.removesuffix("\n").removesuffix("\r")
            row.at += 1


def _unaligned(
    urls: Mapping[str, str], before: int, first: Sequence[str | None], rest: Iterator[Sequence[str | None]]
) -> str:
    counts = [before + (line is not None) for line in first]
    for lines in rest:
        counts = [count + (line is not None) for count, line in zip(counts, lines, strict=True)]
    told = ", ".join(f"{url} has {count:,} lines" for url, count in zip(urls.values(), counts, strict=True))
    return f"{told}: line n of each is row n, so give files with equally many"
