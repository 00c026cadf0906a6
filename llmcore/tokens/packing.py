"""Best-fit packing: documents into rows of one length, none cut that fits, each token exactly once.

A document longer than a row is cut into rows, and its rest is packed like a document. Up to `window` pieces are held; a
row is begun with the longest of them and filled with the longest that still fits, again and again (best-fit decreasing
over a window; Ding et al., 2024, "Fewer Truncations Improve Language Modeling"). Memory is bounded by the window.
"""

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llmcore.tokens.schema import PackedRows

__all__ = ["Piece", "concatenate", "cut", "pack", "rows_of"]

Int32s = npt.NDArray[np.int32]


class Piece(NamedTuple):
    """Consecutive tokens of one document, or all of them: int32 [n], n >= 1, and the number of their source."""

    tokens: Int32s
    source: int


def cut(tokens: Int32s, source: int, sequence_length: int) -> Iterator[Piece]:
    """A document's pieces, in order: whole where it fits, else pieces of `sequence_length` and a rest."""
    for start in range(0, len(tokens), sequence_length):
        yield Piece(tokens[start : start + sequence_length], source)


def pack(pieces: Iterable[Piece], sequence_length: int, window: int) -> Iterator[list[Piece]]:
    """Rows of pieces, each of at most `sequence_length` tokens together: a function of the pieces' order."""
    # Sorted by length, the later ones of one length first, so that the last element is the longest, oldest piece.
    held: list[tuple[int, int, Piece]] = []
    for number, piece in enumerate(pieces):
        if len(piece.tokens) == sequence_length:
            yield [piece]
            continue
        insort(held, (len(piece.tokens), -number, piece))
        if len(held) >= window:
            yield _fill(held, sequence_length)
    while held:
        yield _fill(held, sequence_length)


def concatenate(documents: Iterable[Piece], sequence_length: int) -> Iterator[list[Piece]]:
    """Rows cut from one stream of all documents: all full but the last, and documents are cut wherever a row ends."""
    row: list[Piece] = []
    room = sequence_length
    for tokens, source in documents:
        start = 0
        while start < len(tokens):
            part = tokens[start : start + room]
            row.append(Piece(part, source))
            start += len(part)
            room -= len(part)
            if room == 0:
                yield row
                row, room = [], sequence_length
    if row:
        yield row


def _fill(held: list[tuple[int, int, Piece]], sequence_length: int) -> list[Piece]:
    """Take one row's pieces out of those held: the longest that fits, until none does."""
    row: list[Piece] = []
    room = sequence_length
    while (found := bisect_right(held, room, key=lambda entry: entry[0])) > 0:
        length, _, piece = held.pop(found - 1)
        row.append(piece)
        room -= length
    return row


def rows_of(rows: Sequence[Sequence[Piece]], sequence_length: int, pad: int) -> PackedRows:
    """Rows of pieces as arrays, padded with the id `pad`."""
    tokens = np.full((len(rows), sequence_length), pad, dtype=np.int32)
    for number, row in enumerate(rows):
        filled = np.concatenate([piece.tokens for piece in row])
        tokens[number, : len(filled)] = filled
    return PackedRows(
        tokens,
        [[len(piece.tokens) for piece in row] for row in rows],
        [[piece.source for piece in row] for row in rows],
    )
