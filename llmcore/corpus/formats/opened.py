"""Files of text at any fsspec URL, decompressed by what their names end in."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from llmcore.corpus.formats.base import MAX_CHARACTERS
from llmcore.errors import BadShardError, ShardError
from llmcore.storage import file_system

__all__ = ["COMPRESSIONS", "lines_of", "opened", "opened_text", "reading"]

COMPRESSIONS = ("", ".gz", ".zst")
"""What a name may end in after its format's suffix: plain, gzip, Zstandard."""


@contextmanager
def opened(url: str) -> Iterator[IO[bytes]]:
    """The bytes of a file, decompressed."""
    import pyarrow as pa

    fs, path = file_system(url)
    with fs.open(path) as file:
        if url.endswith(".zst"):
            with pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd") as stream:
                yield io.BufferedReader(stream)
        elif url.endswith(".gz"):
            yield cast(IO[bytes], gzip.GzipFile(fileobj=file))
        else:
            yield file


@contextmanager
def opened_text(url: str, newline: str | None = None) -> Iterator[io.TextIOWrapper]:
    """The text of a file in UTF-8, without a byte order mark; `newline` as in `open`."""
    with opened(url) as file:
        yield io.TextIOWrapper(file, encoding="utf-8-sig", newline=newline)


def lines_of(url: str, file: io.TextIOWrapper) -> Iterator[str]:
    """The lines of a text, each with its end. Raises BadShardError for one that is longer than `MAX_CHARACTERS`."""
    number = 0
    while line := file.readline(MAX_CHARACTERS + 1):
        if len(line) > MAX_CHARACTERS:
            raise BadShardError(
                f"{url}: line {number} has more than {MAX_CHARACTERS:,} characters, which is no document"
            )
        yield line
        number += 1


class _Row:
    """How far a reader has come, for the message of what stops it."""

    at = 0


@contextmanager
def reading(url: str) -> Iterator[_Row]:
    """What reading a shard may meet, as a ShardError that names the shard and the row that was next.

    It is a BadShardError unless the system says that it could not read: that may pass.
    """
    import pyarrow as pa

    unreadable: tuple[type[Any], ...] = (OSError, EOFError, UnicodeDecodeError, zlib.error, pa.ArrowException)
    row = _Row()
    try:
        yield row
    except unreadable as error:
        passing = isinstance(error, OSError) and error.errno is not None
        kind = ShardError if passing else BadShardError
        raise kind(f"{url}: cannot be read from row {row.at} on ({error})") from error
