"""Bias at the source: how often groups of people are named in texts, and how often beside words of praise or blame."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from llmcore.config.group_terms import GroupTermSettings
from llmcore.corpus.near import Words, words_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["GroupCounts", "count_groups", "merge_groups", "named_groups"]


@dataclass
class GroupCounts:
    """Of one group.

    Attributes:
        terms: how often one of its words stands in the texts.
        documents: texts that have one.
        beside_positive, beside_negative: of `terms`, those with a word of praise, or blame, within the window.
    """

    terms: int = 0
    documents: int = 0
    beside_positive: int = 0
    beside_negative: int = 0

    def add(self, other: "GroupCounts") -> None:
        """Count other texts, too."""
        for name, number in asdict(other).items():
            setattr(self, name, getattr(self, name) + number)


def count_groups(texts: "pa.Array", settings: GroupTermSettings) -> dict[str, GroupCounts]:
    """The counts of each group over all texts."""
    words = words_of(texts)
    document = np.repeat(np.arange(len(words.lengths)), words.lengths)
    beside = {name: _beside(words, getattr(settings, name), settings.window_words) for name in ("positive", "negative")}
    found = {}
    for name, terms in settings.groups.items():
        named = np.flatnonzero(_is_one_of(words, terms))
        found[name] = GroupCounts(
            len(named),
            len(np.unique(document[named])),
            int(beside["positive"][named].sum()),
            int(beside["negative"][named].sum()),
        )
    return found


def named_groups(texts: "pa.Array", groups: Sequence[Sequence[str]]) -> npt.NDArray[np.bool_]:
    """Whether a text has a word of a group: bool [texts, groups]."""
    words = words_of(texts)
    document = np.repeat(np.arange(len(words.lengths)), words.lengths)
    named = np.zeros((len(words.lengths), len(groups)), bool)
    for number, terms in enumerate(groups):
        named[document[_is_one_of(words, terms)], number] = True
    return named


def merge_groups(into: dict[str, GroupCounts], other: Mapping[str, GroupCounts]) -> None:
    """Count other texts of a source, too."""
    for name, counts in other.items():
        into.setdefault(name, GroupCounts()).add(counts)


def _is_one_of(words: Words, terms: Sequence[str]) -> npt.NDArray[np.bool_]:
    import pyarrow as pa

    return np.isin(words.hashes, words_of(pa.array(terms, pa.string())).hashes)


def _beside(words: Words, terms: Sequence[str], window: int) -> npt.NDArray[np.bool_]:
    """For each word, whether one of the terms is at most `window` words away in the same text."""
    before = np.concatenate([[0], np.cumsum(_is_one_of(words, terms))])
    starts = np.repeat(np.cumsum(words.lengths) - words.lengths, words.lengths)
    stops = starts + np.repeat(words.lengths, words.lengths)
    places = np.arange(len(words.hashes))
    first, last = np.maximum(places - window, starts), np.minimum(places + window + 1, stops)
    near: npt.NDArray[np.bool_] = before[last] > before[first]
    return near
