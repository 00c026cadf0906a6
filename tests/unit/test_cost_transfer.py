"""Equal quality of two hand-made curves, and when what one of them has cost beforehand is paid for."""

from math import sqrt

import pytest

from llmcore.cost.transfer import (
    Amount,
    BreakEven,
    BreakEvenBetween,
    Budgeted,
    EqualQuality,
    break_even,
    break_even_between,
    equal_qualities,
    frontier,
    reached_at,
)


def curve(*points: tuple[float, float]) -> list[Budgeted]:
    return [Budgeted(*point) for point in points]


def test_the_frontier_leaves_out_what_costs_more_and_brings_no_more() -> None:
    assert frontier(curve((30, 0.6), (10, 0.5), (20, 0.5), (40, 0.55), (10, 0.4), (50, 0.7))) == curve(
        (10, 0.5), (30, 0.6), (50, 0.7)
    )
    assert frontier([]) == []


def test_between_two_budgets_it_is_read_over_the_logarithm() -> None:
    found = reached_at(curve((10, 0.5), (1000, 0.7)), 0.6)
    assert found is not None and found.bound == "exact"
    assert found.value == pytest.approx(100)


def test_nothing_is_read_outside_of_what_was_measured() -> None:
    measured = curve((10, 0.5), (1000, 0.7))
    assert reached_at(measured, 0.70001) is None
    assert reached_at(measured, 0.4) == Amount(10, "at_most")
    assert reached_at(measured, 0.5) == Amount(10)
    assert reached_at(measured, 0.7) == Amount(1000)
    assert reached_at([], 0.1) is None


def test_a_way_that_is_better_from_the_beginning_is_told_by_a_bound() -> None:
    """The cheapest pre-trained point is already better than the best from random weights."""
    found = equal_qualities(curve((10, 0.8), (100, 0.9)), curve((10, 0.5), (1000, 0.6)))
    assert found == [
        EqualQuality(0.5, Amount(10, "at_most"), Amount(10)),
        EqualQuality(0.6, Amount(10, "at_most"), Amount(1000)),
    ]
    assert found[-1].saving == Amount(990, "at_least")
    assert break_even(9900, found[-1].saving) == BreakEven("after", Amount(10, "at_most"))


def test_crossing_curves_save_first_and_lose_later() -> None:
    first, second = curve((10, 0.5), (1000, 0.6)), curve((10, 0.4), (100, 0.6))
    found = {one.quality: one.saving for one in equal_qualities(first, second)}
    assert [*found] == [0.4, 0.5, 0.6]
    assert found[0.4] == Amount(0, "at_least"), "the first way's smallest budget reaches more"
    middle = found[0.5]
    assert middle is not None and middle.value == pytest.approx(10 * sqrt(10) - 10)
    assert found[0.6] == Amount(-900)
    assert break_even(1, found[0.6]) == BreakEven("never")
    assert break_even(1, found[0.4]) == BreakEven("open"), "it may save something with less than was measured"


def test_equal_curves_save_nothing() -> None:
    alike = curve((10, 0.5), (100, 0.6))
    assert [one.saving for one in equal_qualities(alike, alike)] == [Amount(0), Amount(0)]
    assert break_even(5, Amount(0)) == BreakEven("never")


def test_what_is_never_reached_stands_nowhere() -> None:
    assert equal_qualities([], curve((1, 0.5))) == []
    assert equal_qualities(curve((1, 0.1), (2, 0.2)), curve((1, 0.5)))[-1].quality == 0.2
    assert EqualQuality(0.3, Amount(1, "at_most"), Amount(2, "at_most")).saving is None
    assert break_even(10, None) == BreakEven("open")


@pytest.mark.parametrize(
    ("cost", "saving", "tasks"),
    [
        (100.0, Amount(30), Amount(4)),
        (90.0, Amount(30), Amount(3)),
        (10.0, Amount(30), Amount(1)),
        (100.0, Amount(30, "at_least"), Amount(4, "at_most")),
        (100.0, Amount(30, "at_most"), Amount(4, "at_least")),
    ],
)
def test_tasks_are_counted_whole(cost: float, saving: Amount, tasks: Amount) -> None:
    assert break_even(cost, saving) == BreakEven("after", tasks)


def test_an_interval_of_draws_claims_no_more_than_they_do() -> None:
    exact = [BreakEven("after", Amount(float(tasks))) for tasks in range(1, 101)]
    assert break_even_between(exact) == BreakEvenBetween(3.0, 98.0, 0.0, 0.0)
    bounds = [BreakEven("after", Amount(9.0, "at_most"))] * 40
    assert break_even_between(bounds) == BreakEvenBetween(1.0, 9.0, 0.0, 0.0)
    assert break_even_between([*bounds, *[BreakEven("after", Amount(9.0, "at_least"))] * 4]).high == float("inf")
    mixed = break_even_between([*exact, *[BreakEven("never")] * 60, *[BreakEven("open")] * 40])
    assert (mixed.high, mixed.never, mixed.open) == (float("inf"), 0.3, 0.2) and mixed.low == 1.0
    assert break_even_between([BreakEven("never")]).to_json() == {"low": None, "high": None, "never": 1.0, "open": 0.0}


def test_no_more_than_nothing_is_never_paid_for() -> None:
    assert break_even(100, Amount(-5, "at_most")) == BreakEven("never")
    assert break_even(100, Amount(-5, "at_least")) == BreakEven("open")
