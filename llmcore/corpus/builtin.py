"""The built-in corpus on a storage: Parquet shards like anyone's, named by their content, and read like anyone's."""

import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import astuple

from llmcore.corpus.stdlib import COLUMNS, Document, StdlibCorpus
from llmcore.storage import Folder, artifact, publish, read_manifest

__all__ = ["KIND", "SHARD_CHARACTERS", "publish_stdlib"]

KIND = "corpus"
SHARD_CHARACTERS = 3_000_000


def publish_stdlib(storage: Folder, corpus: StdlibCorpus | None = None) -> Folder:
    """The standard library's corpus as `artifacts/corpora/<hash>/part-00000.parquet` …; written if it is not there.

    The manifest counts documents by kind and names the files that could not be read. Raises StorageError, and
    CorpusError where the interpreter has no library in `.py` files.
    """
    corpus = corpus or StdlibCorpus()
    folder = artifact(storage, "corpora", corpus.content_hash())
    if read_manifest(folder) is None:
        kinds: Counter[str] = Counter()
        with publish(folder, KIND, {"name": "python_stdlib", "columns": list(COLUMNS)}) as publication:
            for number, documents in enumerate(_shards(corpus.documents())):
                publication.write_bytes(f"part-{number:05d}.parquet", _parquet(documents))
                kinds.update(document.kind for document in documents)
            publication.about |= {"num_documents": dict(sorted(kinds.items())), "unreadable": list(corpus.unreadable)}
    return folder


def _shards(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Consecutive documents with `SHARD_CHARACTERS` or a little more each."""
    shard: list[Document] = []
    num_characters = 0
    for document in documents:
        shard.append(document)
        num_characters += len(document.text)
        if num_characters >= SHARD_CHARACTERS:
            yield shard
            shard, num_characters = [], 0
    if shard:
        yield shard


def _parquet(documents: list[Document]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [dict(zip(Document.__dataclass_fields__, astuple(document), strict=True)) for document in documents]
    table = pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in COLUMNS]))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
