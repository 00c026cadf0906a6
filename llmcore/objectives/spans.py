"""Spans of a document that are to be written anew (T5: Raffel et al., 2020, section 3.1.4)."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llmcore.config.corruption import SpanSettings
from llmcore.corpus.hashing import UInt64s
from llmcore.objectives.chance import numbers

__all__ = ["Corrupted", "corrupted", "most_spans"]

Int64s = npt.NDArray[np.int64]


class Corrupted(NamedTuple):
    """A document with a sentinel in place of each span; and each span after its sentinel."""

    source: Int64s
    target: Int64s


def _counts(length: int, settings: SpanSettings) -> tuple[int, int]:
    """Tokens in spans, and spans, of a document of `length` tokens, which begins outside of one and ends in one."""
    if length < 2:
        return 0, 0
    noise = min(max(round(length * settings.share), 1), length - 1)
    spans = min(max(round(noise / settings.mean_length), 1), length - noise)
    return noise, spans


def most_spans(length: int, settings: SpanSettings) -> int:
    """Most spans of a document of at most `length` tokens."""
    return max(_counts(shorter, settings)[1] for shorter in range(length + 1))


def corrupted(body: Int64s, key: UInt64s, settings: SpanSettings, sentinels: Int64s) -> Corrupted:
    """Cut spans out of a document.

    How many tokens and spans is a matter of its length alone. All ways to divide them are equally likely.

    Args:
        body: int64 [tokens], without what begins and ends the document. One of fewer than two has no span.
        key: of the document.
        settings: how much, and how long.
        sentinels: int64: ids of the marks, at least as many as there are spans.
    """
    noise, num_spans = _counts(len(body), settings)
    if not num_spans:
        return Corrupted(body, body[:0])
    drawn = numbers(key, len(body) - 2)  # for the cuts between the tokens that stay, and between those that go
    kept = _lengths(len(body) - noise, num_spans, drawn[noise - 1 :])
    cut = _lengths(noise, num_spans, drawn[: noise - 1])
    pieces = np.split(body, np.cumsum(np.stack([kept, cut], axis=1).ravel())[:-1])
    marks = sentinels[:num_spans, None]
    source = [part for piece, mark in zip(pieces[::2], marks, strict=True) for part in (piece, mark)]
    target = [part for piece, mark in zip(pieces[1::2], marks, strict=True) for part in (mark, piece)]
    return Corrupted(np.concatenate(source), np.concatenate(target))


def _lengths(total: int, parts: int, drawn: UInt64s) -> Int64s:
    """Lengths, of at least one, of `parts` parts of `total` things; `drawn`: a number for each place between two."""
    cuts = np.sort(np.argsort(drawn, kind="stable")[: parts - 1]) + 1
    return np.diff(cuts, prepend=0, append=total)
