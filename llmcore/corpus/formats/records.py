"""JSON Lines and CSV: a record after another."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmcore.corpus.formats.base import ID, MAX_CHARACTERS, as_text, check_there, in_tables
from llmcore.corpus.formats.opened import COMPRESSIONS, lines_of, opened_text, reading
from llmcore.errors import BadShardError
from llmcore.storage import parsed_json

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["CSV", "JSONLines"]


class JSONLines:
    """An object a line (jsonlines.org)."""

    suffixes: tuple[str, ...] = (
        *(f"{kind}{compression}" for kind in (".jsonl", ".ndjson") for compression in COMPRESSIONS),
        ".json.gz",
        ".json.zst",
    )

    def columns(self, url: str) -> list[str] | None:
        """Of the first row."""
        with reading(url), opened_text(url) as file:
            line = next(lines_of(url, file), None)
            return sorted(_record(url, 0, line)) if line else None

    def tables(self, url: str, wanted: Sequence[str], texts: Sequence[str] = ()) -> Iterator["pa.Table"]:
        """Line by line."""
        yield from in_tables(self._rows(url, wanted, texts), wanted)

    @staticmethod
    def _rows(url: str, wanted: Sequence[str], texts: Sequence[str]) -> Iterator[tuple[Mapping[str, str | None], int]]:
        with reading(url) as row, opened_text(url) as file:
            for line in lines_of(url, file):
                yield _fields(url, row.at, line, wanted, texts), len(line)
                row.at += 1


def _record(url: str, row: int, line: str) -> dict[str, Any]:
    try:
        record = parsed_json(line)
    except ValueError as error:
        raise BadShardError(f"{url}: row {row} is not JSON ({error}); one object a line is expected") from error
    if not isinstance(record, dict):
        raise BadShardError(f"{url}: row {row} is a {type(record).__name__}; one JSON object a line is expected")
    return record


def _fields(url: str, row: int, line: str, wanted: Sequence[str], texts: Sequence[str]) -> dict[str, str | None]:
    """The wanted values of a line, as text; `id` where it has one."""
    record = _record(url, row, line)
    if missing := [name for name in wanted if name not in record]:
        raise BadShardError(f"{url}: row {row} has no {missing}, but {sorted(record)}")
    for name in texts:
        if not isinstance(record[name], str | None):
            raise BadShardError(f"{url}: row {row} has {name}={record[name]!r:.60}, where text is expected")
    fields = {name: as_text(record.get(name)) for name in [*wanted, ID]}
    if "\\ud" in line.lower() and any("\ud800" <= c <= "\udfff" for value in fields.values() for c in value or ""):
        raise BadShardError(f"{url}: row {row} has half a surrogate pair, which is no Unicode text")
    return fields


class CSV:
    """Comma- or tab-separated values (RFC 4180); values may span lines, and none is null.

    Their first row is a header, unless `header` has the names. Names with `.tsv` in them have tabs, unless `delimiter`
    says what stands between values. Without `quotes` a quotation mark is a character as any other.
    """

    suffixes: tuple[str, ...] = tuple(
        f"{kind}{compression}" for kind in (".csv", ".tsv") for compression in COMPRESSIONS
    )

    def __init__(
        self, header: Sequence[str] | None = None, delimiter: str | None = None, *, quotes: bool = True
    ) -> None:
        self.header, self._delimiter, self._quotes = header, delimiter, quotes

    def columns(self, url: str) -> list[str] | None:
        """Of the header."""
        with reading(url), opened_text(url, newline="") as file:
            first = next(self._records(url, file), None)
            return first if self.header is None or first is None else list(self.header)

    def tables(self, url: str, wanted: Sequence[str], texts: Sequence[str] = ()) -> Iterator["pa.Table"]:
        """Row by row."""
        yield from in_tables(self._rows(url, wanted), wanted)

    def _rows(self, url: str, wanted: Sequence[str]) -> Iterator[tuple[Mapping[str, str | None], int]]:
        with reading(url) as row, opened_text(url, newline="") as file:
            records = self._records(url, file)
            header = next(records, None) if self.header is None else self.header
            if header is None:
                return
            check_there(url, wanted, header)
            places = {name: header.index(name) for name in {*wanted, *({ID} & set(header))}}
            for values in records:
                if len(values) != len(header):
                    raise BadShardError(
                        f"{url}: row {row.at} has {len(values)} values, the header {len(header)} columns"
                    )
                yield {name: values[place] for name, place in places.items()}, sum(map(len, values))
                row.at += 1

    def _records(self, url: str, file: Any) -> Iterator[list[str]]:
        csv.field_size_limit(MAX_CHARACTERS)  # by default a document may have 128 Ki characters
        reader = csv.reader(
            lines_of(url, file),
            delimiter=self._delimiter or ("\t" if ".tsv" in url.rpartition("/")[2] else ","),
            quoting=csv.QUOTE_MINIMAL if self._quotes else csv.QUOTE_NONE,
            strict=True,
        )
        number = -1 if self.header is None else 0  # the header is no row
        try:
            for values in reader:
                if values:  # an empty line is none
                    yield values
                    number += 1
        except csv.Error as error:
            raise BadShardError(f"{url}: row {number} is not CSV ({error}, line {reader.line_num})") from error
