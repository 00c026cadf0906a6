"""Counterfactual copies of documents: the words of two groups swapped, so that what is said of one is said of both.

Zhao et al. (2018), "Gender Bias in Coreference Resolution"; Lu et al. (2018), "Gender Bias in Neural Natural Language
Processing"; Hall Maudslay et al. (2019), "It's All in the Name", for first names.

No part of speech is looked up. A word of two pairs, as English `her` and `his` are, is taken as a possessive where a
word follows it directly, and that is no function word: `saw her dog`, but `saw her.`, `told her that`. It is wrong
where a verb or a rarer adverb follows: `saw her smile`.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from llmcore.config.counterfactual import CounterfactualSettings, WordPairs
from llmcore.corpus.dedup import DIGEST_BYTES, text_digests, uniforms_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["MARK", "CounterfactualCounts", "Swapper", "counterfactuals_of", "with_counterfactuals"]

MARK = "#counterfactual"
"""What the id of a copy ends in."""
_GAPS = re.compile(r"(\W+)")


@dataclass
class CounterfactualCounts:
    """Of one source.

    Attributes:
        copies: that were made.
        duplicates: those of them whose text was there already, in any split: they are left out again.
        terms: words swapped in all copies, by pair.
    """

    copies: int = 0
    duplicates: int = 0
    terms: Counter[str] = field(default_factory=Counter)

    def add(self, other: "CounterfactualCounts") -> None:
        """Count other documents of the source, too."""
        self.copies += other.copies
        self.duplicates += other.duplicates
        self.terms.update(other.terms)

    def to_json(self) -> dict[str, Any]:
        """As plain values, the most frequent pairs first."""
        terms = sorted(self.terms.items(), key=lambda item: (-item[1], item[0]))
        return {"copies": self.copies, "duplicates": self.duplicates, "terms": dict(terms)}


class Swapper:
    """Swaps words, whole ones alone, in lower case, Capitalized or UPPER: the other word is written likewise."""

    def __init__(self, settings: WordPairs) -> None:
        self._function_words = frozenset(settings.function_words)
        self._groups = tuple(frozenset(words) for words in zip(*settings.pairs, strict=True))
        # For each word as it is written: what to write for it, and the pair, of the first pair and of the last.
        self._swaps: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {}
        for first, second in settings.pairs:
            for word, other in ((first, second), (second, first)):
                forms = {form(word): form(other) for form in (str.upper, str.capitalize, str.lower)}
                for written, swapped in forms.items():
                    last = (swapped, f"{first}/{second}")
                    self._swaps[written] = (self._swaps.get(written, (last,))[0], last)

    def swapped(self, text: str) -> tuple[str, Counter[str]]:
        """The text with all words swapped, and how many by pair: `he/she`."""
        parts = _GAPS.split(text)  # words, and between them what is none
        counts: Counter[str] = Counter()
        for place in range(0, len(parts), 2):
            if (found := self._swaps.get(parts[place])) is not None:
                # What follows is looked at, and not yet swapped; what came before is looked at no more.
                parts[place], pair = found[0] if self._before_a_noun(parts, place) else found[1]
                counts[pair] += 1
        return "".join(parts), counts

    def named(self, text: str) -> tuple[int, int]:
        """How many words of the first, and of the second group of the pairs a text has."""
        words = _GAPS.split(text.lower())[::2]
        first, second = (sum(word in group for word in words) for group in self._groups)
        return first, second

    def _before_a_noun(self, parts: Sequence[str], place: int) -> bool:
        """Whether a word follows directly that a possessive may stand before."""
        if place + 2 >= len(parts) or not parts[place + 1].isspace():
            return False
        following = parts[place + 2].lower()
        return following != "" and following not in self._function_words


def counterfactuals_of(
    documents: "pa.Table", settings: CounterfactualSettings, seed: int
) -> tuple["pa.Table", dict[int, CounterfactualCounts]]:
    """Copies of the train documents that have words to swap, or of a share of them, chosen by their digests.

    Args:
        documents: each with its `digest` and `split`.
        settings: the words, and the share.
        seed: of the digests.

    Returns:
        The copies, each as its document but for `text`, `digest` and `id`; and what was done, by number of the source.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    swapper = Swapper(settings)
    train = pc.equal(documents["split"], "train").to_numpy()
    rows: list[int] = []
    texts: list[str] = []
    counts: dict[int, CounterfactualCounts] = {}
    for row in np.flatnonzero(train & (uniforms_of(documents, "counterfactual") < settings.share)).tolist():
        text, terms = swapper.swapped(documents["text"][row].as_py())
        if terms:
            rows.append(row)
            texts.append(text)
            counts.setdefault(documents["source"][row].as_py(), CounterfactualCounts()).add(
                CounterfactualCounts(1, 0, terms)
            )
    copies = documents.drop_columns(["text"]).take(pa.array(rows, pa.int64()))
    made = {
        "id": pa.array([f"{name}{MARK}" for name in copies["id"].to_pylist()], pa.string()),
        "text": pa.array(texts, pa.string()),
        "digest": pa.array(text_digests(texts, seed), pa.binary(DIGEST_BYTES)),
    }
    arrays = [made[name] if name in made else copies[name] for name in documents.column_names]
    return pa.Table.from_arrays(arrays, schema=documents.schema), counts


def with_counterfactuals(
    documents: "pa.Table", copies: Sequence["pa.Table"]
) -> tuple["pa.Table", dict[int, CounterfactualCounts]]:
    """A bucket's documents and the copies whose digests belong to it, in the order of their digests, no text twice.

    A copy goes, and is counted, where its text is there already: it may well be a held-out document's.
    """
    import pyarrow as pa

    order = [(name, "ascending") for name in ("digest", "id", "shard", "row", "passage")]
    made = pa.concat_tables(copies).sort_by(order)
    there = set(documents["digest"].to_pylist())
    new: list[bool] = []
    counts: dict[int, CounterfactualCounts] = {}
    for digest, source in zip(made["digest"].to_pylist(), made["source"].to_pylist(), strict=True):
        new.append(digest not in there)
        there.add(digest)
        counts.setdefault(source, CounterfactualCounts()).duplicates += not new[-1]
    every = pa.concat_tables([documents, made.filter(pa.array(new, pa.bool_()))])
    return every.sort_by("digest").combine_chunks(), counts
