"""Near duplicates: documents whose sets of shingles have at least a given Jaccard similarity.

MinHash signatures (Broder, 1997; made by fast similarity sketching, Dahlgaard et al., 2017) cut into bands (Leskovec et
al., "Mining of Massive Datasets", chapter 3) find candidates; each candidate pair is then compared exactly. A document
is dropped if, and only if, one that comes before it stays and is similar: first come, first kept, in the order of
priorities. So what stays depends on nothing but the documents, and each one dropped has its like among those kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from llmcore.corpus.hashing import GOLDEN, UInt64s, mix64

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Banding",
    "Int64s",
    "Shingles",
    "UInt64s",
    "band_keys",
    "candidate_pairs",
    "shingles_of",
    "similarities",
    "sketch",
]

Int64s = npt.NDArray[np.int64]

NUM_LEADERS = 16
"""Of the documents that share a band: each of them is compared with the first so many, not with all."""
FOUND = 0.99
"""Least probability that a pair is found whose similarity is over the threshold by `MARGIN`."""
MARGIN = 0.05


class Banding(NamedTuple):
    """How a signature is cut: `num_bands` of `num_rows` values each."""

    num_bands: int
    num_rows: int

    @classmethod
    def of(cls, threshold: float, num_permutations: int) -> "Banding":
        """The longest bands, which give the fewest candidates, that find what is to be found.

        Raises ValueError where so few permutations cannot.
        """
        for num_rows in range(num_permutations, 0, -1):
            banding = cls(num_permutations // num_rows, num_rows)
            if banding.probability(min(1.0, threshold + MARGIN)) >= FOUND:
                return banding
        raise ValueError(
            f"num_permutations={num_permutations} cannot find {FOUND:.0%} of the pairs over threshold={threshold} by "
            f"{MARGIN}: give more"
        )

    def probability(self, similarity: float) -> float:
        """That a pair of this similarity is a candidate."""
        return float(1 - (1 - similarity**self.num_rows) ** self.num_bands)


@dataclass(frozen=True)
class Shingles:
    """The shingles of several documents: those of document i are `hashes[offsets[i]:offsets[i + 1]]`, unsorted."""

    hashes: UInt64s
    offsets: Int64s

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def sets(self) -> list[UInt64s]:
        """Each document's shingles, sorted, each once."""
        return [np.unique(part) for part in np.split(self.hashes, self.offsets[1:-1])] if len(self) else []


class Words(NamedTuple):
    """The words of several texts, one after the other: their hashes, and how many each text has."""

    hashes: UInt64s
    lengths: Int64s


def words_of(texts: "pa.Array") -> Words:
    """Letters and digits between anything else, in lower case.

    A text without a letter or digit is one word of its own characters.
    """
    import pyarrow.compute as pc

    plain = pc.replace_substring_regex(pc.utf8_lower(texts), r"[^\p{L}\p{M}\p{N}]+", " ")
    plain = pc.utf8_trim_whitespace(plain)
    plain = pc.if_else(pc.equal(plain, ""), pc.replace_substring_regex(texts, r"\s+", ""), plain)
    words = pc.utf8_split_whitespace(plain)
    flat = words.flatten()
    vocabulary = flat.dictionary_encode()
    known = np.array([_hash(word) for word in vocabulary.dictionary.to_pylist()], dtype=np.uint64)
    hashes = known[vocabulary.indices.to_numpy()] if len(flat) else np.zeros(0, dtype=np.uint64)
    return Words(hashes, pc.list_value_length(words).to_numpy(zero_copy_only=False).astype(np.int64))


def _hash(word: str) -> int:
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")


def shingles_of(texts: "pa.Array", size: int) -> Shingles:
    """The shingles of each text: `size` consecutive words; all of them, where it has fewer."""
    return windows_of(words_of(texts), size)


def windows_of(words: Words, size: int) -> Shingles:
    """Hashes of `size` words at each place of each text; of fewer, where it has no more."""
    hashes, lengths = words
    starts = np.cumsum(lengths) - lengths
    ends = np.repeat(starts + lengths, lengths)
    rolled = np.zeros(len(hashes), dtype=np.uint64)
    padded = np.concatenate([hashes, np.zeros(size, dtype=np.uint64)])
    places = np.arange(len(hashes))
    for ahead in range(size):
        inside = places + ahead < ends
        rolled = np.where(inside, rolled * GOLDEN + padded[ahead : ahead + len(hashes)], rolled)
    whole = places + size <= ends
    whole[starts[(lengths < size) & (lengths > 0)]] = True
    counts = np.where(lengths >= size, lengths - size + 1, np.minimum(lengths, 1))
    return Shingles(mix64(rolled[whole]), np.concatenate([[0], np.cumsum(counts)]))


def sketch(shingles: Shingles, num_permutations: int) -> npt.NDArray[np.uint32]:
    """MinHash signatures, uint32 [documents, num_permutations]; two agree in a place as often as the sets are alike."""
    from rensa import RMinHash

    found = RMinHash.digest_matrix_from_flat_token_hashes(
        shingles.hashes, shingles.offsets.astype(np.uint64), num_permutations, 0
    )
    return np.array(found.to_rows(), dtype=np.uint32).reshape(len(shingles), num_permutations)


def band_keys(signatures: npt.NDArray[np.uint32], banding: Banding) -> UInt64s:
    """One key for each band, uint64 [documents, num_bands]; equal where the bands are, and their numbers."""
    num_documents = len(signatures)
    used = signatures[:, : banding.num_bands * banding.num_rows].astype(np.uint64)
    bands = used.reshape(num_documents, banding.num_bands, banding.num_rows)
    keys = mix64(np.broadcast_to(np.arange(banding.num_bands, dtype=np.uint64) + np.uint64(1), bands.shape[:2]).copy())
    for place in range(banding.num_rows):
        keys = mix64(keys * GOLDEN + bands[:, :, place])
    return keys


def candidate_pairs(keys: UInt64s, priorities: UInt64s, documents: Int64s) -> tuple[Int64s, Int64s]:
    """Pairs of documents that share a key: (first, later) by priority, then by number; each once.

    Args:
        keys, priorities, documents: [n] each; a document stands here once for each of its bands.
    """
    order = np.lexsort((documents, priorities, keys))
    keys, documents = keys[order], documents[order]
    places = np.arange(len(keys))
    begins = np.ones(len(keys), dtype=bool)
    begins[1:] = keys[1:] != keys[:-1]
    start = np.maximum.accumulate(np.where(begins, places, 0))
    firsts, laters = [], []
    for leader in range(NUM_LEADERS):
        later = places[places - start > leader]
        firsts.append(documents[start[later] + leader])
        laters.append(documents[later])
    pairs = np.unique(np.stack([np.concatenate(firsts), np.concatenate(laters)]), axis=1)
    return pairs[0], pairs[1]


def similarities(firsts: Sequence[UInt64s], laters: Sequence[UInt64s]) -> Iterator[float]:
    """The Jaccard similarity of each pair of sets, which are sorted and have each value once."""
    for first, later in zip(firsts, laters, strict=True):
        common = len(np.intersect1d(first, later, assume_unique=True))
        yield common / max(1, len(first) + len(later) - common)
