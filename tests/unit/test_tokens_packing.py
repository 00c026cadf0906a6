import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcore.config.prepare import PackingSettings
from llmcore.tokens import packing
from llmcore.tokens.packing import Piece, concatenate, cut, pack, rows_of

PAD = -1
Documents = list[list[int]]


@st.composite
def numbered_documents(draw: st.DrawFn) -> Documents:
    """Documents of which no two tokens are equal, so that each can be looked for."""
    lengths = draw(st.lists(st.integers(1, 40), max_size=60))
    ends = np.cumsum(lengths).tolist()
    return [list(range(end - length, end)) for length, end in zip(lengths, ends, strict=True)]


def _packed(documents: Documents, length: int, window: int) -> list[list[Piece]]:
    pieces = (
        piece
        for number, document in enumerate(documents)
        for piece in cut(Piece(np.array(document, dtype=np.int32), number), length)
    )
    return list(pack(pieces, length, window))


@given(documents=numbered_documents(), length=st.integers(8, 24), window=st.integers(1, 10))
@settings(deadline=None)
def test_every_token_stands_exactly_once_and_no_document_is_cut_that_fits(
    documents: Documents, length: int, window: int
) -> None:
    rows = _packed(documents, length, window)
    tokens = [token for row in rows for piece in row for token in piece.tokens.tolist()]
    assert sorted(tokens) == [token for document in documents for token in document]
    assert all(1 <= sum(len(piece.tokens) for piece in row) <= length for row in rows)
    for number, document in enumerate(documents):
        pieces = sorted(
            (piece.tokens.tolist() for row in rows for piece in row if piece.source == number), key=lambda part: part[0]
        )
        assert [token for piece in pieces for token in piece] == document
        assert [len(piece) for piece in pieces[:-1]] == [length] * (-(-len(document) // length) - 1)


@given(documents=numbered_documents(), window=st.integers(1, 10))
@settings(deadline=None)
def test_packing_is_a_function_of_the_order_of_documents(documents: Documents, window: int) -> None:
    one, two = _packed(documents, 16, window), _packed(documents, 16, window)
    assert [[piece.source for piece in row] for row in one] == [[piece.source for piece in row] for row in two]


def test_best_fit_fills_what_first_come_would_not() -> None:
    lengths = [9, 5, 9, 5, 1, 1, 4]
    rows = _packed([[0] * length for length in lengths], length=10, window=len(lengths) + 1)
    assert [[len(piece.tokens) for piece in row] for row in rows] == [[9, 1], [9, 1], [5, 5], [4]]


def test_a_window_of_512_fills_rows_as_promised() -> None:
    rng = np.random.default_rng(0)
    documents = [[0] * int(length) for length in rng.lognormal(5, 1.2, size=4000).clip(4, 50_000)]
    rows = _packed(documents, length=1024, window=512)
    assert sum(map(len, documents)) / (1024 * len(rows)) > 0.997


def test_memory_is_bounded_by_the_window() -> None:
    taken = 0

    def pieces() -> Iterator[Piece]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield Piece(np.zeros(3, dtype=np.int32), 0)

    for number, _ in enumerate(pack(pieces(), 8, window=16)):
        assert taken <= 16 + 2 * number


def test_rows_of_pads_and_keeps_lengths_and_sources() -> None:
    rows = _packed([[1, 2, 3], [4, 5], [6, 7, 8, 9]], length=8, window=8)
    packed = rows_of(rows, 8, PAD)
    assert packed.tokens.tolist() == [[6, 7, 8, 9, 1, 2, 3, PAD], [4, 5, *[PAD] * 6]]
    assert packed.document_lengths == [[4, 3], [2]]
    assert packed.sources == [[2, 0], [1]]
    assert rows_of([], 8, PAD).to_table(50).num_rows == 0


@given(documents=numbered_documents(), length=st.integers(8, 24))
@settings(deadline=None)
def test_concatenated_rows_are_the_documents_one_after_the_other(documents: Documents, length: int) -> None:
    pieces = (Piece(np.array(document, dtype=np.int32), number) for number, document in enumerate(documents))
    rows = list(concatenate(pieces, length))
    assert [token for row in rows for piece in row for token in piece.tokens.tolist()] == [
        token for document in documents for token in document
    ]
    assert all(sum(len(piece.tokens) for piece in row) == length for row in rows[:-1])
    assert all(piece.tokens[0] in documents[piece.source] for row in rows for piece in row)


@pytest.mark.parametrize(
    ("length_of", "fill"),
    [
        (lambda rng: int(2 ** rng.uniform(4, 11)), 0.999),
        (lambda rng: int(2 ** rng.uniform(6.2, 11)), 0.997),
        (lambda rng: rng.randint(50, 900), 0.99),
        (lambda rng: int(rng.lognormvariate(6, 1)) + 1, 0.998),
    ],
    ids=["all lengths", "no short ones", "uniform", "log-normal"],
)
def test_rows_are_full(length_of: Callable[[random.Random], int], fill: float) -> None:
    rng = random.Random(0)
    lengths = [length_of(rng) for _ in range(8000)]
    pieces = (piece for length in lengths for piece in cut(Piece(np.zeros(length, np.int32), 0), 1024))
    num_rows = sum(1 for _ in pack(pieces, 1024, PackingSettings().window))
    assert sum(lengths) / (num_rows * 1024) > fill


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=12), room=st.integers(1, 60))
def test_what_comes_closest_is_found(lengths: list[int], room: int) -> None:
    held = [(length, -number, Piece(np.zeros(length, np.int32), 0)) for number, length in enumerate(sorted(lengths))]
    places = packing._closest(held, len(held), room)
    assert places == sorted(set(places), reverse=True)
    sums = {0}
    for length in lengths:
        sums |= {total + length for total in sums if total + length <= room}
    assert sum(held[place][0] for place in places) == max(sums)
