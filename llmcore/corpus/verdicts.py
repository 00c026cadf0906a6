"""First come, first kept, when no process has all pairs: documents tell those after them what became of them.

Each partition has the pairs whose later document is in it, and those whose first is. A document without an earlier one
stays; one that hears that an earlier one stays is dropped; one that has heard that all earlier ones are dropped stays.
This is the lexicographically first maximal independent set; with random priorities it takes O(log n) rounds (Blelloch,
Fineman and Shun, 2012, "Greedy sequential maximal independent set and matching are parallel on average").
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["News", "Verdicts"]

Int64s = npt.NDArray[np.int64]

_OPEN, _KEPT, _DROPPED = 0, 1, 2


class News(NamedTuple):
    """What later documents are told of earlier ones: arrays of one length.

    Attributes:
        later: who is told.
        first: of whom.
        kept: whether that one stays.
    """

    later: Int64s
    first: Int64s
    kept: npt.NDArray[np.bool_]

    @classmethod
    def join(cls, parts: Sequence["News"]) -> "News":
        """All of them."""
        nothing = cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.bool_))
        return cls(*(np.concatenate(columns) for columns in zip(nothing, *parts, strict=True)))

    def where(self, mask: npt.NDArray[np.bool_]) -> "News":
        """Some of it."""
        return News(self.later[mask], self.first[mask], self.kept[mask])


@dataclass(frozen=True)
class Verdicts:
    """What is known of the documents of one partition that stand in a pair.

    Attributes:
        documents: sorted.
        verdicts: of each.
        waiting: how many earlier documents each has still to hear of.
        beside: of each that is dropped, the first one kept that it is like; else -1.
        first, later: the pairs whose first document is in this partition, sorted by it.
    """

    documents: Int64s
    verdicts: npt.NDArray[np.int8]
    waiting: Int64s
    beside: Int64s
    first: Int64s
    later: Int64s

    @classmethod
    def begin(cls, own_later: Int64s, first: Int64s, later: Int64s) -> tuple["Verdicts", News]:
        """The state before any news, and the first news: documents with none before them stay.

        Args:
            own_later: the later documents of all pairs whose later document is in this partition.
            first, later: all pairs whose first document is in this partition.
        """
        documents = np.unique(np.concatenate([own_later, first]))
        waiting = np.zeros(len(documents), np.int64)
        np.add.at(waiting, np.searchsorted(documents, own_later), 1)
        order = np.argsort(first, kind="stable")
        beside = np.full(len(documents), -1, np.int64)
        state = cls(documents, np.zeros(len(documents), np.int8), waiting, beside, first[order], later[order])
        return state._decided(_KEPT, waiting == 0)

    def hear(self, news: News) -> tuple["Verdicts", News]:
        """The state after news of earlier documents, of this partition or others; and what is news of its own."""
        at = np.searchsorted(self.documents, news.later)
        waiting, beside = self.waiting.copy(), self.beside.copy()
        np.subtract.at(waiting, at, 1)
        undecided = self.verdicts == _OPEN
        told = np.zeros(len(self.documents), bool)
        told[at[news.kept]] = True
        told &= undecided
        for where, first in zip(at[news.kept], news.first[news.kept], strict=True):
            if told[where] and (beside[where] < 0 or first < beside[where]):
                beside[where] = first
        state = replace(self, waiting=waiting, beside=beside)
        state, dropped = state._decided(_DROPPED, told)
        state, kept = state._decided(_KEPT, undecided & ~told & (waiting == 0))
        return state, News.join([dropped, kept])

    def dropped(self) -> tuple[Int64s, Int64s]:
        """The documents that are dropped, and for each one that stays and that it is like."""
        assert (self.verdicts != _OPEN).all()
        dropped = self.verdicts == _DROPPED
        return self.documents[dropped], self.beside[dropped]

    def _decided(self, verdict: int, these: npt.NDArray[np.bool_]) -> tuple["Verdicts", News]:
        """The state with this verdict on these documents, and what those after them are told."""
        told = np.isin(self.first, self.documents[these])
        news = News(self.later[told], self.first[told], np.full(int(told.sum()), verdict == _KEPT))
        return replace(self, verdicts=np.where(these, np.int8(verdict), self.verdicts)), news
