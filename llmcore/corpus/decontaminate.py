"""Held-out rows in training documents: found by the n-grams of words that they share.

A document is contaminated by a row if it has at least a given share of the row's n-grams (of 13 words, as in GPT-3:
Brown et al., 2020, appendix C; of all its words where a row is shorter). So a row is found verbatim, inside a longer
text, and lightly edited: of a long text with every twentieth word replaced, 35 % of the 13-grams are left.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from llmcore.corpus.near import Int64s, UInt64s, windows_of, words_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Contaminated", "Protected"]


class Contaminated(NamedTuple):
    """A document, by its place in a table, and the row it has most of: its set, its place there, and the share."""

    document: int
    set: int
    row: int
    share: float


@dataclass(frozen=True)
class Protected:
    """The n-grams of held-out rows.

    Attributes:
        names: of the sets.
        rows: for each row, (set, number in the set, n-grams), int64 [rows, 3].
        grams: for each length in words, the hashes, sorted, and the rows they are of (places in `rows`), side by side.
        unchecked: rows of each set that have too few words to be told from others.
    """

    names: tuple[str, ...]
    rows: Int64s
    grams: Mapping[int, tuple[UInt64s, Int64s]]
    unchecked: Counter[str]

    @classmethod
    def of(cls, name: str, texts: "pa.Array", ngram_words: int, min_words: int) -> "Protected":
        """The n-grams of one set's texts."""
        words = words_of(texts)
        checked = np.flatnonzero(words.lengths >= min_words)
        sizes = np.minimum(words.lengths[checked], ngram_words)
        rows = np.zeros((len(checked), 3), np.int64)
        rows[:, 1] = checked
        grams = {}
        for size in np.unique(sizes).tolist():
            shingles = windows_of(words, size)
            places = np.flatnonzero(sizes == size)
            hashes, owners = [], []
            for place in places:
                number = checked[place]
                own = np.unique(shingles.hashes[shingles.offsets[number] : shingles.offsets[number + 1]])
                rows[place, 2] = len(own)
                hashes.append(own)
                owners.append(np.full(len(own), place))
            grams[size] = _sorted(np.concatenate(hashes), np.concatenate(owners))
        unchecked = len(words.lengths) - len(checked)
        return cls((name,), rows, grams, Counter({name: unchecked}) if unchecked else Counter())

    @classmethod
    def join(cls, parts: Sequence["Protected"]) -> "Protected":
        """All of them; parts of one name are one set."""
        names = tuple(dict.fromkeys(name for part in parts for name in part.names))
        rows: list[Int64s] = []
        grams: dict[int, list[tuple[UInt64s, Int64s]]] = {}
        unchecked: Counter[str] = Counter()
        first = 0
        for part in parts:
            moved = part.rows.copy()
            moved[:, 0] = np.array([names.index(name) for name in part.names], np.int64)[part.rows[:, 0]]
            rows.append(moved)
            for size, (hashes, owners) in part.grams.items():
                grams.setdefault(size, []).append((hashes, owners + first))
            unchecked.update(part.unchecked)
            first += len(part.rows)
        joined = {
            size: _sorted(np.concatenate([hashes for hashes, _ in found]), np.concatenate([own for _, own in found]))
            for size, found in grams.items()
        }
        return cls(names, np.concatenate([np.zeros((0, 3), np.int64), *rows]), joined, unchecked)

    def num_rows(self) -> dict[str, int]:
        """Rows of each set whose n-grams are looked for."""
        counts = np.bincount(self.rows[:, 0], minlength=len(self.names)).tolist()
        return dict(zip(self.names, counts, strict=True))

    def find(self, texts: "pa.Array", min_overlap: float) -> list[Contaminated]:
        """The texts that have at least this share of a row's n-grams, each with the row it has most of."""
        words = words_of(texts)
        pairs = []
        for size, (hashes, owners) in self.grams.items():
            shingles = windows_of(words, size)
            documents = np.repeat(np.arange(len(shingles)), np.diff(shingles.offsets))
            low, high = (np.searchsorted(hashes, shingles.hashes, side) for side in ("left", "right"))
            counts = high - low
            hit = np.flatnonzero(counts)
            # One entry for each n-gram of a text and each row that has it; it counts once, however often it comes.
            where = np.repeat(low[hit] - np.cumsum(counts[hit]) + counts[hit], counts[hit]) + np.arange(
                counts[hit].sum()
            )
            entries = np.unique(np.stack([np.repeat(documents[hit], counts[hit]), where]), axis=1)
            pairs.append(np.stack([entries[0], owners[entries[1]]]))
        if not pairs:
            return []
        found, common = np.unique(np.concatenate(pairs, axis=1), axis=1, return_counts=True)
        shares = common / self.rows[found[1], 2]
        best: dict[int, Contaminated] = {}
        for (document, row), share in zip(found.T.tolist(), shares.tolist(), strict=True):
            if share >= min_overlap and (document not in best or share > best[document].share):
                number, place, _ = self.rows[row].tolist()
                best[document] = Contaminated(document, number, place, share)
        return [best[document] for document in sorted(best)]


def _sorted(hashes: UInt64s, owners: Int64s) -> tuple[UInt64s, Int64s]:
    order = np.lexsort((owners, hashes))
    return hashes[order], owners[order]
