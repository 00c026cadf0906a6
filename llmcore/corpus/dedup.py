"""Exact duplicates: which copy of a text stays. Bucketed by digest, so that no process needs all documents."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from llmcore.corpus.split import HELD_OUT, SPLITS

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DIGEST_BYTES", "buckets_of", "drop_duplicates", "priorities_of", "text_digests"]

DIGEST_BYTES = 16
_RANK = {split: rank for rank, split in enumerate([*HELD_OUT, *(split for split in SPLITS if split not in HELD_OUT)])}


def text_digests(texts: Iterable[str], seed: int) -> list[bytes]:
    """128 bits of BLAKE2b, keyed by the seed: equal for equal texts alone, and an order of documents that is a mix."""
    key = str(seed).encode()
    return [hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES, key=key).digest() for text in texts]


def buckets_of(digests: "pa.Array", num_buckets: int) -> npt.NDArray[np.int64]:
    """Bucket, 0 … num_buckets-1, of each digest (fixed-size binary): copies of one text meet in one bucket."""
    data = np.frombuffer(digests.buffers()[1], dtype=">u8")
    start = digests.offset * (DIGEST_BYTES // 8)
    heads = data[start : start + len(digests) * (DIGEST_BYTES // 8) : DIGEST_BYTES // 8]
    return (heads.astype(np.uint64) % np.uint64(num_buckets)).astype(np.int64)


def priorities_of(documents: "pa.Table") -> npt.NDArray[np.uint64]:
    """A number for each document that has its split and digest: of two alike, the one of the lower number is kept.

    It is lower in a more held-out split; else by the digest, which is as good as random.
    """
    data = documents["digest"].combine_chunks()
    heads = np.frombuffer(data.buffers()[1], dtype=">u8")[data.offset * (DIGEST_BYTES // 8) :: DIGEST_BYTES // 8]
    ranks = np.array([_RANK[split] for split in documents["split"].to_pylist()], dtype=np.uint64)
    return (ranks << np.uint64(62)) | (heads[: len(ranks)].astype(np.uint64) >> np.uint64(2))


def drop_duplicates(documents: "pa.Table", splits: Sequence[str]) -> tuple["pa.Table", Counter[str]]:
    """Keep one document of each digest: of the most held-out split (test, validation, train), then the first by id.

    The outcome is the same whatever the order of the rows.

    Args:
        documents: with columns `digest`, `id`, `shard`, `row` and `passage`; all documents of the digests in it.
        splits: the split of each document.

    Returns:
        The documents kept, with a column `split`, in the order of their digests; and how many were dropped:
        `duplicate` beside a copy in the same split, `duplicate_of_held_out` beside one in another.
    """
    import pyarrow as pa

    ranks = pa.array([_RANK[split] for split in splits], pa.int8())
    table = documents.append_column("split", pa.array(splits, pa.string())).append_column("rank", ranks)
    table = table.sort_by(
        [(name, "ascending") for name in ("digest", "rank", "id", "shard", "row", "passage")]
    ).combine_chunks()
    num_rows = table.num_rows
    if num_rows == 0:
        return table.drop_columns(["rank"]), Counter()
    digests = np.array(table["digest"].to_pylist(), dtype=f"S{DIGEST_BYTES}")
    first = np.ones(num_rows, dtype=bool)
    first[1:] = digests[1:] != digests[:-1]
    rank = table["rank"].to_numpy()
    kept_rank = rank[np.maximum.accumulate(np.where(first, np.arange(num_rows), 0))]
    dropped = Counter(
        {
            "duplicate": int((~first & (rank == kept_rank)).sum()),
            "duplicate_of_held_out": int((~first & (rank != kept_rank)).sum()),
        }
    )
    return table.filter(pa.array(first)).drop_columns(["rank"]).combine_chunks(), dropped
