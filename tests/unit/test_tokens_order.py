import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcore.tokens.order import RowOrder, padded_share_size, share


@pytest.mark.parametrize(
    "num_rows", [*range(1, 150), *(2**bits + step for bits in range(9, 13) for step in (-1, 0, 1))]
)
def test_each_epoch_has_each_row_once(num_rows: int) -> None:
    rows, epochs = RowOrder(num_rows, seed=num_rows % 5).rows(np.arange(2 * num_rows))
    assert sorted(rows[:num_rows]) == sorted(rows[num_rows:]) == list(range(num_rows))
    assert epochs.tolist() == [0] * num_rows + [1] * num_rows


@given(num_rows=st.integers(1, 5000), seed=st.integers(0, 2**70))
@settings(max_examples=60, deadline=None)
def test_permutation_of_any_size_and_seed(num_rows: int, seed: int) -> None:
    rows, _ = RowOrder(num_rows, seed).rows(np.arange(num_rows))
    assert np.array_equal(np.sort(rows), np.arange(num_rows))


@given(num_rows=st.integers(1, 10**12), positions=st.lists(st.integers(0, 10**15), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_a_vector_is_its_scalars(num_rows: int, positions: list[int]) -> None:
    order = RowOrder(num_rows, seed=3)
    rows, epochs = order.rows(np.array(positions))
    one_by_one = [order.rows(np.array([position])) for position in positions]
    assert [int(row[0]) for row, _ in one_by_one] == rows.tolist()
    assert epochs.tolist() == [position // num_rows for position in positions]
    assert rows.min() >= 0 and rows.max() < num_rows


def test_epochs_and_seeds_differ() -> None:
    rows, _ = RowOrder(1000, seed=0).rows(np.arange(2000))
    other, _ = RowOrder(1000, seed=1).rows(np.arange(1000))
    for one, two in [(rows[:1000], rows[1000:]), (rows[:1000], other), (rows[:1000], np.arange(1000))]:
        assert (one == two).mean() < 0.02


@pytest.mark.parametrize("num_rows", [2, 3, 9])
def test_every_row_is_about_as_likely_at_every_position(num_rows: int) -> None:
    num_seeds = 400
    counts = np.zeros((num_rows, num_rows))
    for seed in range(num_seeds):
        counts[np.arange(num_rows), RowOrder(num_rows, seed).rows(np.arange(num_rows))[0]] += 1
    expected = num_seeds / num_rows
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    degrees = (num_rows - 1) ** 2
    assert chi_squared < degrees + 5 * np.sqrt(2 * degrees)


def test_the_order_is_fixed_for_good() -> None:
    # A run that resumes after an upgrade must find its rows: change this only with the step versions of the jobs.
    assert RowOrder(10, seed=0).rows(np.arange(10))[0].tolist() == [8, 0, 2, 4, 7, 9, 3, 5, 1, 6]


def test_no_row_for_padding_and_no_order_of_nothing() -> None:
    with pytest.raises(ValueError, match="position -1"):
        RowOrder(3, 0).rows(np.array([1, -1]))
    with pytest.raises(ValueError, match="num_rows=0"):
        RowOrder(0, 0)


@given(global_batch=st.integers(0, 200), world_size=st.integers(1, 40))
def test_shares_are_the_global_batch_in_order(global_batch: int, world_size: int) -> None:
    shares = [share(global_batch, world_size, rank) for rank in range(world_size)]
    assert [row for part in shares for row in part] == list(range(global_batch))
    assert [len(part) for part in shares] == [len(part) for part in np.array_split(np.arange(global_batch), world_size)]
    assert padded_share_size(global_batch, world_size) == max(len(part) for part in shares)


def test_share_refuses_a_rank_that_is_none() -> None:
    with pytest.raises(ValueError, match="rank=2"):
        share(4, 2, 2)
