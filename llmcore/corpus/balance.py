"""Sources in which groups of people are named in equally many train documents: those of one group alone are dropped.

A document that names several groups, or none, always stays, and so do the held-out ones: they are what is measured by.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from llmcore.corpus.dedup import uniforms_of
from llmcore.corpus.group_terms import named_groups

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["NONE", "Balance", "count_only", "only_groups"]

NONE = -1
"""In the place of a group's number: a document names several, or none, or is not of the train split."""


def only_groups(documents: "pa.Table", terms: Sequence[Sequence[str]]) -> npt.NDArray[np.int16]:
    """The number of the one group that each train document names, given the words of each; else `NONE`."""
    import pyarrow.compute as pc

    named = named_groups(documents["text"].combine_chunks(), terms)
    train = pc.equal(documents["split"], "train").to_numpy()
    return np.where(train & (named.sum(axis=1) == 1), named.argmax(axis=1), NONE).astype(np.int16)


def count_only(documents: "pa.Table", only: npt.NDArray[np.int16]) -> dict[int, Counter[int]]:
    """The documents that name one group alone, by source and number of the group."""
    counts: dict[int, Counter[int]] = {}
    for source, group in zip(documents["source"].to_pylist(), only.tolist(), strict=True):
        if group != NONE:
            counts.setdefault(source, Counter())[group] += 1
    return counts


@dataclass(frozen=True)
class Balance:
    """Which share of the documents that name one group alone is kept: by source and number of the group."""

    shares: Mapping[int, Sequence[float]]

    @classmethod
    def of(cls, counts: Mapping[int, Counter[int]], num_groups: int, tolerance: float) -> "Balance":
        """The balance of documents, counted by source and group.

        Of a group with more than `tolerance` times the documents of the rarest, as many are kept, in expectation, as
        of the rarest. Where one has no document there is nothing to balance the others against: all are kept.
        """
        shares = {}
        for source, by_group in counts.items():
            numbers = [by_group[group] for group in range(num_groups)]
            rarest = min(numbers)
            shares[source] = [
                rarest / number if rarest > 0 and number > tolerance * rarest else 1.0 for number in numbers
            ]
        return cls(shares)

    def dropped(self, documents: "pa.Table", only: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
        """The rows of the documents that go, by their digests."""
        where = zip(documents["source"].to_pylist(), only.tolist(), strict=True)
        shares = np.array([1.0 if group == NONE else self.shares[source][group] for source, group in where])
        return np.flatnonzero(uniforms_of(documents, "balance") >= shares)
