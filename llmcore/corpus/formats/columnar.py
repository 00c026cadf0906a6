"""Parquet and Arrow IPC: columns that a shard names itself."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import fsspec

from llmcore.corpus.formats.base import BATCH_ROWS, ID, check_there
from llmcore.corpus.formats.opened import reading

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Arrow", "Parquet"]


def _as_text(batch: "pa.RecordBatch") -> "pa.Table":
    import pyarrow as pa

    table = pa.Table.from_batches([batch])
    return table.cast(pa.schema([(name, pa.string()) for name in table.column_names]))


class Parquet:
    """Apache Parquet."""

    suffixes: tuple[str, ...] = (".parquet",)

    def columns(self, url: str) -> list[str] | None:
        """From the footer."""
        import pyarrow.parquet as pq

        with reading(url), fsspec.open(url, "rb") as file:
            return list(pq.ParquetFile(file).schema_arrow.names)

    def tables(self, url: str, wanted: Sequence[str]) -> Iterator["pa.Table"]:
        """Wanted columns alone are read."""
        import pyarrow.parquet as pq

        with reading(url) as row, fsspec.open(url, "rb") as file:
            parquet = pq.ParquetFile(file)
            there = parquet.schema_arrow.names
            check_there(url, wanted, there)
            columns = [*wanted, *({ID} & set(there) - set(wanted))]
            for batch in parquet.iter_batches(batch_size=BATCH_ROWS, columns=columns):
                yield _as_text(batch)
                row.at += batch.num_rows


class Arrow:
    """Arrow IPC, as a file or as a stream, which `datasets.Dataset.save_to_disk` writes."""

    suffixes: tuple[str, ...] = (".arrow", ".feather")
    _FILE = b"ARROW1"

    def columns(self, url: str) -> list[str] | None:
        """From the schema."""
        with reading(url), fsspec.open(url, "rb") as file:
            return list(self._reader(file).schema.names)

    def tables(self, url: str, wanted: Sequence[str]) -> Iterator["pa.Table"]:
        """A record batch at a time, in pieces."""
        with reading(url) as row, fsspec.open(url, "rb") as file:
            reader = self._reader(file)
            there = reader.schema.names
            check_there(url, wanted, there)
            columns = [*wanted, *({ID} & set(there) - set(wanted))]
            for batch in self._batches(reader):
                for start in range(0, batch.num_rows, BATCH_ROWS):
                    yield _as_text(batch.select(columns).slice(start, BATCH_ROWS))
                row.at += batch.num_rows

    def _reader(self, file: Any) -> Any:
        import pyarrow as pa

        start = file.read(len(self._FILE))
        file.seek(0)
        return pa.ipc.open_file(file) if start == self._FILE else pa.ipc.open_stream(file)

    @staticmethod
    def _batches(reader: Any) -> "Iterable[pa.RecordBatch]":
        if hasattr(reader, "num_record_batches"):
            return (reader.get_batch(number) for number in range(reader.num_record_batches))
        return reader  # type: ignore[no-any-return]
