"""Best-fit packing: documents into rows of one length, none cut that fits, each token exactly once.

A document longer than a row is cut into rows, and its rest is packed like a document. Up to `window` pieces are held; a
row is begun with the longest of them and filled with the longest that still fits, again and again (best-fit decreasing
over a window; Ding et al., 2024, "Fewer Truncations Improve Language Modeling"). Where that leaves more than a little
of the row, the longest piece is joined by those that come closest to filling it. Memory is bounded by the window.
"""

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llmcore.tokens.schema import PackedRows, Second

__all__ = ["Piece", "concatenate", "cut", "pack", "rows_of"]

Int32s = npt.NDArray[np.int32]


TOLERANCE = 0.005
"""Share of a row that may stay empty without a closer look: looking always would use up the short pieces."""


class Piece(NamedTuple):
    """Consecutive tokens of one document, or all of them: int32 [n], n >= 1, and the number of their source.

    Or a pair of segments, the second of which may be another document's.
    """

    tokens: Int32s
    source: int
    second: Second = Second()


Held = tuple[int, int, Piece]
"""Length, number and piece; sorted, the later ones of one length come first: the last is the longest, oldest."""


def cut(document: Piece, sequence_length: int) -> Iterator[Piece]:
    """A document's pieces, in order: whole where it fits, else pieces of `sequence_length` and a rest."""
    if len(document.tokens) <= sequence_length:
        yield document
        return
    for start in range(0, len(document.tokens), sequence_length):
        yield Piece(document.tokens[start : start + sequence_length], document.source)


def pack(pieces: Iterable[Piece], sequence_length: int, window: int) -> Iterator[list[Piece]]:
    """Rows of pieces, each of at most `sequence_length` tokens together: a function of the pieces' order."""
    held: list[Held] = []
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
    for tokens, source, _ in documents:
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


def _fill(held: list[Held], sequence_length: int) -> list[Piece]:
    """Take one row's pieces out of those held."""
    places, room = _longest_first(held, sequence_length)
    if room > TOLERANCE * sequence_length:
        longest = len(held) - 1
        closer = _closest(held, longest, sequence_length - held[longest][0])
        if sum(held[place][0] for place in closer) > sequence_length - room - held[longest][0]:
            places = [longest, *closer]
    return [held.pop(place)[2] for place in places]


def _longest_first(held: Sequence[Held], room: int) -> tuple[list[int], int]:
    """Places, from the last to the first, of the longest piece that fits, again and again; and what room is left."""
    places: list[int] = []
    end = len(held)
    while (found := bisect_right(held, room, 0, end, key=lambda entry: entry[0])) > 0:
        end = found - 1
        places.append(end)
        room -= held[end][0]
    return places, room


def _closest(held: Sequence[Held], end: int, room: int) -> list[int]:
    """Places before `end`, from the last to the first, of pieces whose lengths together come closest to `room`.

    A subset sum: bit n of an integer is set where some of the pieces so far have n tokens together. Longer pieces are
    looked at first, and taken rather than shorter ones, which fill other rows more easily.
    """
    fits = (2 << room) - 1
    sums, places = [1], []
    for place in range(bisect_right(held, room, 0, end, key=lambda entry: entry[0]) - 1, -1, -1):
        sums.append((sums[-1] | sums[-1] << held[place][0]) & fits)
        places.append(place)
        if sums[-1] >> room:
            break
    wanted = sums[-1].bit_length() - 1
    taken = []
    for at in range(len(places), 0, -1):
        if not sums[at - 1] >> wanted & 1:
            taken.append(places[at - 1])
            wanted -= held[places[at - 1]][0]
    return taken[::-1]


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
        [[piece.second for piece in row] for row in rows],
    )
