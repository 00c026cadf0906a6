"""Sentence pairs as BERT reads them: half of the second segments follow the first, half are from somewhere else.

As in Devlin et al., 2019, Appendix A.2, and their `create_pretraining_data.py`, but for one thing: there a random
second segment is a copy, and what is too long is cut off. Here segments change places, so that each token of the
documents stands in one pair exactly; each with one that is as long as it is, so that lengths give nothing away.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llmcore.tokens.packing import Piece
from llmcore.tokens.schema import ALONE, FOLLOWS, RANDOM, Second
from llmcore.tokens.tokenizer import SpecialIds

__all__ = ["FRAME", "SHORT_SHARE", "Pair", "framed", "sentence_pairs"]

Int32s = npt.NDArray[np.int32]

FRAME = 3
"""Tokens that a pair has besides its segments': what begins it, and what ends each segment."""
SHORT_SHARE = 0.1
"""Share of the pairs that are made shorter than a row, by any length: what is fine-tuned on is short, too."""
_WAITING = 64
"""Segments looked at for one to change places with."""


class Pair(NamedTuple):
    """Two runs of whole sentences, int32 [n] each, the first one's document, and what the second is.

    The second is empty, and the label `ALONE`, where a document has one sentence left.
    """

    first: Int32s
    second: Int32s
    document: int
    label: int


def sentence_pairs(documents: Iterable[Sequence[Int32s]], room: int, seed: int) -> list[Pair]:
    """Pairs of at most `room` tokens that have each token of the documents once: a function of documents and seed.

    Half of the pairs, chosen at random, change their second segments for those of other documents, or, where too few
    documents are left to change with, for those of other places in theirs: in each of them, the label is `RANDOM`.

    Args:
        documents: of each, its sentences in order, int32 [n] with n >= 1. One longer than half a pair is cut.
        room: tokens of both segments together, 4 at least.
        seed: of the lengths, the places of the cuts, and the choice of pairs.
    """
    chance = Random(seed)
    pairs: list[Pair] = []
    for number, sentences in enumerate(documents):
        parts = [part for sentence in sentences for part in _cut(sentence, room // 2)]
        pairs += _consecutive(parts, number, room, chance)
    _exchange(pairs, room, chance)
    return pairs


def framed(pair: Pair, source: int, special: SpecialIds) -> Piece:
    """A pair between the special tokens of its tokenizer, as one piece; one without a second segment has one end."""
    begin, end = np.array([[special.begin], [special.end]], np.int32)
    if not len(pair.second):
        return Piece(np.concatenate([begin, pair.first, end]), source)
    tokens = np.concatenate([begin, pair.first, end, pair.second, end])
    return Piece(tokens, source, Second(len(pair.first) + 2, pair.label))


def _cut(sentence: Int32s, length: int) -> Iterator[Int32s]:
    for start in range(0, len(sentence), length):
        yield sentence[start : start + length]


def _consecutive(sentences: Sequence[Int32s], document: int, room: int, chance: Random) -> Iterator[Pair]:
    """A document's sentences, of at most half the room each, as pairs of which the second segment follows the first."""
    start = 0
    while start < len(sentences):
        wanted = chance.randint(2, room) if chance.random() < SHORT_SHARE else room
        stop, length = start, 0
        # Two sentences always fit; more are taken as far as they do.
        while stop < len(sentences) and (stop - start < 2 or length + len(sentences[stop]) <= wanted):
            length += len(sentences[stop])
            stop += 1
        if stop == len(sentences) - 1 and stop - start > 2:
            stop -= 1  # for the last sentence, which would stand alone
        if stop - start == 1:
            yield Pair(sentences[start], sentences[start][:0], document, ALONE)
        else:
            middle = chance.randint(start + 1, stop - 1)
            segments = np.concatenate(sentences[start:middle]), np.concatenate(sentences[middle:stop])
            yield Pair(*segments, document, FOLLOWS)
        start = stop


def _exchange(pairs: list[Pair], room: int, chance: Random) -> None:
    """Let half of the pairs change their second segments, two by two, each with one that is about as long."""
    whole = [number for number, pair in enumerate(pairs) if pair.label == FOLLOWS]
    chosen = chance.sample(whole, len(whole) // 2)
    chosen.sort(key=lambda number: len(pairs[number].second))  # of equal ones, in random order
    for within_documents in (False, True):
        waiting: deque[int] = deque(maxlen=_WAITING)
        for number in [number for number in chosen if pairs[number].label == FOLLOWS]:
            one = pairs[number]
            other = next((at for at in waiting if _may_exchange(one, pairs[at], room, within_documents)), None)
            if other is None:
                waiting.append(number)
                continue
            waiting.remove(other)
            pairs[number] = one._replace(second=pairs[other].second, label=RANDOM)
            pairs[other] = pairs[other]._replace(second=one.second, label=RANDOM)


def _may_exchange(one: Pair, other: Pair, room: int, within_documents: bool) -> bool:
    longest = max(len(one.first) + len(other.second), len(other.first) + len(one.second))
    return longest <= room and (within_documents or one.document != other.document)
