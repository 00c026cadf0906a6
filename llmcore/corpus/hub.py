"""Datasets of Hugging Face as corpora on a storage: Parquet shards, named by what they are made from."""

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from llmcore.config.prepare import DatasetSettings
from llmcore.errors import CorpusError
from llmcore.storage import Folder, artifact, content_hash, publish, read_manifest

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["dataset_hash", "publish_dataset"]

KIND = "corpus"
SHARD_BYTES = 64_000_000
_BATCH_ROWS = 1000


def dataset_hash(source: str, settings: DatasetSettings) -> str:
    """What tells this dataset from others: its builder, with the versions of its files. Raises CorpusError."""
    from datasets import load_dataset_builder

    builder: Any = _asked(source, settings, load_dataset_builder)
    return content_hash(KIND, settings.model_dump(), builder.hash, builder.config_id, str(builder.info.version))


def publish_dataset(storage: Folder, source: str, settings: DatasetSettings) -> Folder:
    """The dataset as `artifacts/corpora/<hash>/part-00000.parquet` …; streamed there, if it is not there yet.

    Raises CorpusError where it cannot be loaded; the message names source and dataset.
    """
    from datasets import load_dataset

    folder = artifact(storage, "corpora", dataset_hash(source, settings))
    if read_manifest(folder) is None:
        streaming = "[" not in settings.split  # a slice of a split cannot be streamed
        rows: Any = _asked(source, settings, load_dataset, split=settings.split, streaming=streaming)
        number = 0
        with publish(folder, KIND, {"dataset": settings.model_dump()}) as publication:
            for number, table in enumerate(_shards(rows.with_format("arrow").iter(_BATCH_ROWS))):
                publication.write_bytes(f"part-{number:05d}.parquet", _parquet(table))
    return folder


def _asked(source: str, settings: DatasetSettings, load: Any, **options: Any) -> Any:
    files = {"data_files": settings.data_files} if settings.data_files is not None else {}
    try:
        return load(settings.path, settings.name, revision=settings.revision, **files, **options)
    except Exception as error:  # the hub, its client and every builder have errors of their own
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise CorpusError(
            f"source {source}: dataset {settings.path!r} cannot be loaded ({reason}); check its name, and the access"
        ) from error


def _shards(batches: "Iterator[pa.Table]") -> "Iterator[pa.Table]":
    import pyarrow as pa

    held: list[pa.Table] = []
    for batch in batches:
        held.append(batch)
        if sum(table.nbytes for table in held) >= SHARD_BYTES:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


def _parquet(table: "pa.Table") -> bytes:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()
