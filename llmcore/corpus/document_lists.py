"""Which documents are in a split: a Parquet file for each bucket, beside the tokens that they became.

artifacts/tokens/<hash>/documents/{train,validation,test}/part-00000.parquet
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmcore.corpus.split import SPLITS
from llmcore.storage import FileEntry, Folder, write_file

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["listed_documents", "write_document_lists"]


def listed_documents(documents: "pa.Table", num_tokens: "pa.Array", sources: Sequence[str]) -> "pa.Table":
    """What is told of each document: all but its text.

    Args:
        documents: in their order.
        num_tokens: of each, its end included, and also those in rows over the `max_tokens` of its source.
        sources: their names, by number.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    names = pa.array(sources, pa.string()).take(documents["source"].combine_chunks())
    columns = {"id": documents["id"], "source": names}
    columns |= {name: documents[name] for name in ("shard", "row", "passage", "language")}
    columns |= {"num_characters": pc.utf8_length(documents["text"]), "num_tokens": num_tokens}
    return pa.table(columns | {"metadata": documents["metadata"]})


def write_document_lists(
    folder: Folder, number: int, documents: "pa.Table", num_tokens: "pa.Array", sources: Sequence[str]
) -> list[FileEntry]:
    """Write what is told of one bucket's documents, a file for each split that it has some of.

    Raises StorageError.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    listed = listed_documents(documents, num_tokens, sources)
    entries = []
    for split in SPLITS:
        of_split = listed.filter(pc.equal(documents["split"], split))
        if of_split.num_rows:
            sink = pa.BufferOutputStream()
            pq.write_table(of_split, sink, compression="zstd")
            name = f"documents/{split}/part-{number:05d}.parquet"
            entries.append(write_file(folder, name, sink.getvalue().to_pybytes()))
    return entries
