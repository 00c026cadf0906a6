"""Exact duplicates: which copy of a text stays. Bucketed by digest, so that no process needs all documents."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from llmcore.corpus.hashing import UInt64s, mix64
from llmcore.corpus.split import HELD_OUT, SPLITS

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DIGEST_BYTES", "buckets_of", "drop_duplicates", "priorities_of", "text_digests", "uniforms_of"]

DIGEST_BYTES = 16
_RANK = {split: rank for rank, split in enumerate([*HELD_OUT, *(split for split in SPLITS if split not in HELD_OUT)])}


def text_digests(texts: Iterable[str], seed: int) -> list[bytes]:
    """128 bits of BLAKE2b, keyed by the seed: equal for equal texts alone, and an order of documents that is a mix."""
    key = str(seed).encode()
    return [hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES, key=key).digest() for text in texts]


def buckets_of(digests: "pa.Array", num_buckets: int) -> npt.NDArray[np.int64]:
    """Bucket, 0 … num_buckets-1, of each digest (fixed-size binary): copies of one text meet in one bucket."""
    return (_halves(digests)[:, 0] % np.uint64(num_buckets)).astype(np.int64)


def priorities_of(documents: "pa.Table") -> npt.NDArray[np.uint64]:
    """A number for each document that has its split and digest: of two alike, the one of the lower number is kept.

    It is lower in a more held-out split; else by the digest, which is as good as random.
    """
    ranks = np.array([_RANK[split] for split in documents["split"].to_pylist()], dtype=np.uint64)
    return (ranks << np.uint64(62)) | (_halves(documents["digest"].combine_chunks())[:, 0] >> np.uint64(2))


def uniforms_of(documents: "pa.Table", purpose: str) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each document, by its digest: what is chosen for one purpose says nothing of another."""
    salt = np.frombuffer(hashlib.blake2b(purpose.encode(), digest_size=8).digest(), np.uint64)
    mixed = mix64(_halves(documents["digest"].combine_chunks())[:, 1] ^ salt)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _halves(digests: "pa.Array") -> UInt64s:
    """The digests as numbers, uint64 [digests, 2]: buckets are by the first, so it is not uniform within one."""
    if len(digests) == 0:
        return np.zeros((0, 2), np.uint64)
    words = np.frombuffer(digests.buffers()[1], dtype=">u8").reshape(-1, 2)
    return words[digests.offset : digests.offset + len(digests)].astype(np.uint64)


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
