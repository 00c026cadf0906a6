import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcore.tokens.mixture import PERIOD, BlockOrder, MixtureOrder, SourceRows, schedule, shares_of


@given(
    num_rows=st.integers(1, 700),
    rows_per_block=st.integers(1, 40),
    blocks_per_window=st.integers(1, 9),
    seed=st.integers(0, 2**40),
)
@settings(deadline=None, max_examples=40)
def test_each_epoch_has_each_row_once(num_rows: int, rows_per_block: int, blocks_per_window: int, seed: int) -> None:
    order = BlockOrder(num_rows, rows_per_block, seed, blocks_per_window)
    rows, epochs = order.rows(np.arange(3 * num_rows))
    for epoch in range(3):
        assert sorted(rows[epoch * num_rows : (epoch + 1) * num_rows]) == list(range(num_rows))
    assert epochs.tolist() == sorted([0, 1, 2] * num_rows)
    some = np.random.default_rng(0).permutation(3 * num_rows)[:20]
    assert [int(order.rows(np.array([at]))[0][0]) for at in some] == rows[some].tolist()


def test_a_window_touches_few_blocks_and_mixes_them() -> None:
    order = BlockOrder(num_rows=1000 * 50 - 7, rows_per_block=50, seed=3, blocks_per_window=8)
    rows, _ = order.rows(np.arange(400))
    blocks = rows // 50
    assert len(set(blocks.tolist())) == 8
    assert np.ptp(blocks) > 300, "blocks of one window are from all over"
    assert (np.diff(blocks) == 0).mean() < 0.3, "rows of one block are not together"
    later, _ = order.rows(np.arange(400) + order.num_rows)
    assert len(set((later // 50).tolist()) & set(blocks.tolist())) < 4, "another epoch has other windows"


@given(weights=st.lists(st.floats(0.1, 100), min_size=1, max_size=7))
@settings(deadline=None, max_examples=40)
def test_after_any_number_of_rows_each_source_is_within_one_of_its_share(weights: list[float]) -> None:
    shares = shares_of(tuple(weights))
    assert sum(shares) == PERIOD
    assert all(
        abs(share / PERIOD - weight / sum(weights)) <= 1 / PERIOD for share, weight in zip(shares, weights, strict=True)
    )
    order, before = schedule(shares)
    turns = np.arange(1, PERIOD + 1)
    for number, share in enumerate(shares):
        had = np.cumsum(order == number)
        assert np.abs(had - turns * share / PERIOD).max() < 1
        assert before[order == number].tolist() == list(range(share))


def test_two_sources_are_within_one_row_in_any_stretch() -> None:
    """Of more than two, that cannot be for all weights: a stretch is the difference of two beginnings."""
    order, _ = schedule(shares_of((0.3, 0.7)))
    for length in (1, 7, 64, 100, 999):
        counts = np.convolve(order == 0, np.ones(length), "valid")
        assert np.abs(counts - 0.3 * length).max() <= 1


@given(
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=4),
    weights=st.lists(st.floats(0.05, 20), min_size=4, max_size=4),
    rows_per_block=st.integers(1, 30),
    seed=st.integers(0, 1000),
    start=st.integers(0, 12_000),
)
@settings(deadline=None, max_examples=25)
def test_each_source_has_each_row_once_in_each_of_its_epochs(
    sizes: list[int], weights: list[float], rows_per_block: int, seed: int, start: int
) -> None:
    firsts = np.cumsum([0, *sizes])
    sources = tuple(
        SourceRows(int(first), size, weight) for first, size, weight in zip(firsts, sizes, weights, strict=False)
    )
    order = MixtureOrder(sources, rows_per_block, seed)
    positions = np.arange(start + 1500)
    rows, epochs = order.rows(positions)
    for source in sources:
        own = (rows >= source.first_row) & (rows < source.first_row + source.num_rows)
        found = rows[own] - source.first_row
        for epoch in range(len(found) // source.num_rows):
            part = slice(epoch * source.num_rows, (epoch + 1) * source.num_rows)
            assert sorted(found[part]) == list(range(source.num_rows))
            assert set(epochs[own][part]) == {epoch}
    tail_rows, tail_epochs = order.rows(positions[start:])
    assert np.array_equal(tail_rows, rows[start:]) and np.array_equal(tail_epochs, epochs[start:])


def test_how_often_each_source_is_read() -> None:
    order = MixtureOrder((SourceRows(0, 100, 1.0), SourceRows(100, 50, 3.0)), 8, 0)
    _, epochs = order.rows(np.arange(1000))
    assert order.epochs_after(1000) == pytest.approx([2.5, 15.0])
    assert epochs.max() == 14


def test_a_weight_that_gives_no_turn_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the weight 1e-06 is under a ten-thousandth"):
        shares_of((1.0, 1e-6))


def test_a_massive_corpus_costs_no_more_than_a_small_one() -> None:
    """1e10 rows in 100,000 shards: a position in under 10 ms, the next window of 65,536 rows in under a second."""
    order = MixtureOrder(
        (SourceRows(0, 7 * 10**9, 1.0), SourceRows(7 * 10**9, 3 * 10**9 - 11, 2.5)), rows_per_block=1024, seed=0
    )
    order.rows(np.array([0]))  # the schedule is made once
    tracemalloc.start()
    began = time.process_time()
    rows, _ = order.rows(np.array([9_876_543_210]))
    found = time.process_time()
    window, _ = order.rows(np.arange(65_536) + 9_876_543_210)
    ended = time.process_time()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert window[0] == rows[0] and len(set(window.tolist())) == 65_536
    assert found - began < 0.01 and ended - found < 1 and peak < 500e6


def test_the_order_is_fixed_for_good() -> None:
    # A run that resumes after an upgrade must find its rows: change this only with the step versions of the jobs.
    order = MixtureOrder((SourceRows(0, 6, 1.0), SourceRows(6, 4, 1.0)), 2, seed=0)
    assert order.rows(np.arange(10))[0].tolist() == [0, 6, 4, 9, 2, 7, 1, 8, 5, 7]
