"""Parquet and Arrow IPC: columns that a shard names itself."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from llmcore.corpus.formats.base import BATCH_ROWS, ID, as_text, check_there
from llmcore.corpus.formats.opened import reading
from llmcore.errors import BadShardError
from llmcore.storage import file_system

if TYPE_CHECKING:
    import pyarrow as pa

    Batches = Callable[[list[str]], Iterator[pa.RecordBatch]]

__all__ = ["Arrow", "Parquet"]


class _Columnar(ABC):
    """What both have in common: wanted columns alone are taken, and cast to text."""

    suffixes: tuple[str, ...]

    @abstractmethod
    def _opened(self, file: Any) -> "tuple[list[str], Batches]":
        """The columns of a file, and how to read some of them, at most `BATCH_ROWS` rows at a time."""

    def columns(self, url: str) -> list[str] | None:
        """From the schema; no row is read."""
        fs, path = file_system(url)
        with reading(url), fs.open(path) as file:
            return self._opened(file)[0]

    def tables(self, url: str, wanted: Sequence[str], texts: Sequence[str] = ()) -> Iterator["pa.Table"]:
        """Batch by batch."""
        import pyarrow as pa
        import pyarrow.types as kinds

        fs, path = file_system(url)
        with reading(url) as row, fs.open(path) as file:
            there, batches = self._opened(file)
            check_there(url, wanted, there)
            columns = [*wanted, *({ID} & set(there) - set(wanted))]
            for batch in batches(columns):
                batch.validate(full=True)
                table = pa.Table.from_batches([batch])
                for name in texts:
                    kind = table.schema.field(name).type
                    kind = kind.value_type if kinds.is_dictionary(kind) else kind
                    if not (kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_null(kind)):
                        raise BadShardError(f"{url}: column {name!r} is {kind}, where text is expected")
                yield pa.table({name: _as_text(table[name]) for name in table.column_names})
                row.at += batch.num_rows


class Parquet(_Columnar):
    """Apache Parquet."""

    suffixes: tuple[str, ...] = (".parquet",)

    def _opened(self, file: Any) -> "tuple[list[str], Batches]":
        import pyarrow.parquet as pq

        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        names = list(parquet.schema_arrow.names)
        return names, lambda columns: parquet.iter_batches(batch_size=BATCH_ROWS, columns=columns)


class Arrow(_Columnar):
    """Arrow IPC, as a file or as a stream, which `datasets.Dataset.save_to_disk` writes."""

    suffixes: tuple[str, ...] = (".arrow", ".feather")
    _FILE = b"ARROW1"

    def _opened(self, file: Any) -> "tuple[list[str], Batches]":
        import pyarrow as pa

        start = file.read(len(self._FILE))
        file.seek(0)
        if start == self._FILE:
            reader = pa.ipc.open_file(file)
            whole = (reader.get_batch(number) for number in range(reader.num_record_batches))
        else:
            whole = reader = pa.ipc.open_stream(file)

        def batches(columns: list[str]) -> "Iterator[pa.RecordBatch]":
            for batch in whole:
                for first in range(0, batch.num_rows, BATCH_ROWS):
                    yield batch.select(columns).slice(first, BATCH_ROWS)

        return list(reader.schema.names), batches


def _as_text(column: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """A column as text: lists and structures as they are written in JSON."""
    import pyarrow as pa
    import pyarrow.types as kinds

    if kinds.is_nested(column.type):
        return pa.chunked_array([[as_text(value) for value in column.to_pylist()]], pa.string())
    return column.cast(pa.string())
