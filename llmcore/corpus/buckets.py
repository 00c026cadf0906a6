"""Documents in buckets by the digest of their text: what one process needs to hold at once.

`partition` takes a table of documents apart, whatever documents are in it; `Bucket` is made from all the parts of one
number, and is the same however the documents were read.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmcore.corpus.dedup import DIGEST_BYTES, buckets_of, drop_duplicates, text_digests
from llmcore.corpus.split import KeySize, Shares, split_of_id, split_of_keys

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Census",
    "SplitRule",
    "by_bucket",
    "make_bucket",
    "num_buckets_for",
    "partition",
    "sample_texts",
    "with_digests",
]

_SMALL_BYTES, _LARGE_BYTES = 512 << 10, 64 << 20
_FEW = 16


def num_buckets_for(num_bytes: int) -> int:
    """Buckets for shards of so many (compressed) bytes, and nothing else: rows must not depend on the cluster.

    A small corpus still keeps some processes busy, a bucket of a large one fits into the memory of a process.
    """
    return max(1, min(_FEW, -(-num_bytes // _SMALL_BYTES)), -(-num_bytes // _LARGE_BYTES))


@dataclass
class Census:
    """What must be known of all documents before any has its split; as large as the number of keys.

    Attributes:
        keys: for each key, its documents by stratum.
        sources: documents with text, by number of the source.
        empty: documents without text.
    """

    keys: dict[str, Counter[str]] = field(default_factory=dict)
    sources: Counter[int] = field(default_factory=Counter)
    empty: int = 0

    def add(self, other: "Census") -> None:
        """Count other documents too."""
        for key, strata in other.keys.items():
            self.keys.setdefault(key, Counter()).update(strata)
        self.sources.update(other.sources)
        self.empty += other.empty

    def key_sizes(self) -> dict[str, KeySize]:
        """Each key's size, and the stratum that most of its documents name."""
        return {
            key: KeySize(min(strata, key=lambda stratum: (-strata[stratum], stratum)), sum(strata.values()))
            for key, strata in self.keys.items()
        }


@dataclass(frozen=True)
class SplitRule:
    """The split of each document: by its key's, or by its id."""

    keys: Mapping[str, str]
    shares: Shares
    seed: int

    @classmethod
    def of(cls, census: Census, shares: Shares, seed: int) -> "SplitRule":
        """The rule for the documents counted."""
        return cls(split_of_keys(census.key_sizes(), shares, seed), shares, seed)

    def splits(self, documents: "pa.Table") -> list[str]:
        """The split of each document."""
        rows = zip(documents["key"].to_pylist(), documents["id"].to_pylist(), strict=True)
        return [self.keys[key] if key is not None else split_of_id(name, self.shares, self.seed) for key, name in rows]


def with_digests(documents: "pa.Table", seed: int) -> "pa.Table":
    """The documents with the column `digest` of their texts (null where there is no text)."""
    import pyarrow as pa

    texts = documents["text"].to_pylist()
    digests = iter(text_digests((text for text in texts if text), seed))
    column = [next(digests) if text else None for text in texts]
    return documents.append_column("digest", pa.array(column, pa.binary(DIGEST_BYTES)))


def partition(documents: "pa.Table", num_buckets: int) -> tuple[list["pa.Table"], Census]:
    """Take a table with digests apart by bucket; documents without text are left out, and counted."""
    import pyarrow.compute as pc

    if documents.num_rows == 0:  # Ray Data gives such a block without columns
        return [documents] * num_buckets, Census()
    full = documents.filter(pc.is_valid(documents["digest"])).combine_chunks()
    census = Census(sources=Counter(full["source"].to_pylist()), empty=documents.num_rows - full.num_rows)
    for key, stratum in zip(full["key"].to_pylist(), full["stratum"].to_pylist(), strict=True):
        if key is not None:
            census.keys.setdefault(key, Counter())[stratum or ""] += 1
    if full.num_rows == 0:
        return [full] * num_buckets, census
    return by_bucket(full, num_buckets), census


def by_bucket(documents: "pa.Table", num_buckets: int) -> list["pa.Table"]:
    """The documents of each bucket, by their digests."""
    import pyarrow as pa

    buckets = buckets_of(documents["digest"].combine_chunks(), num_buckets)
    return [documents.filter(pa.array(buckets == bucket)) for bucket in range(num_buckets)]


def make_bucket(parts: Sequence["pa.Table"], rule: SplitRule) -> tuple["pa.Table", Counter[str]]:
    """All parts of one bucket as its documents, each with its `split`, in the order of their digests, no text twice.

    Returns the documents, and how many were dropped, by reason: see `drop_duplicates`.
    """
    import pyarrow as pa

    documents = pa.concat_tables(part for part in parts if part.num_columns).combine_chunks()
    return drop_duplicates(documents, rule.splits(documents))


def sample_texts(bucket: "pa.Table", split: str, max_bytes: int) -> list[str]:
    """A split's first texts of a bucket, up to so many bytes of UTF-8; the last one is cut."""
    import pyarrow.compute as pc

    texts: list[str] = []
    for text in bucket["text"].filter(pc.equal(bucket["split"], split)).to_pylist():
        data = text.encode()
        if len(data) > max_bytes:
            texts.append(data[:max_bytes].decode(errors="ignore"))
            break
        texts.append(text)
        max_bytes -= len(data)
    return texts
