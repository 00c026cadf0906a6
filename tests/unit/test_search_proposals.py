"""What a search tries: the same points from the same records, what applies alone, good ones soon, and a known front."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcore.config.space import Range
from llmcore.search import Proposals, Told, pareto_front

RANGES: dict[str, dict[str, Any]] = {
    "method": {"choice": ["full", "lora"]},
    "rank": {"log_integer": [2, 64], "when": {"method": ["lora"]}},
    "rate": {"log_uniform": [1e-5, 1e-2]},
    "layers": {"integer": [0, 6], "when": {"method": ["full"]}},
    "share": {"uniform": [0.0, 0.5]},
    "sizes": {"choice": [[1, 2], {"a": None}, True, "x"]},
}


def _space(ranges: Mapping[str, Any]) -> dict[str, Range]:
    return {key: Range.model_validate(range_) for key, range_ in ranges.items()}


def _searched(
    proposals: Proposals, worth: Callable[[dict[str, Any]], tuple[float, ...]], num_trials: int
) -> list[Told]:
    told: list[Told] = []
    for number in range(num_trials):
        values = proposals.propose(number, told)
        told.append(Told(values, worth(values)))
    return told


@pytest.mark.parametrize("searcher", ["random", "optuna"])
@given(seed=st.integers(0, 2**31), number=st.integers(0, 500))
@settings(max_examples=40, deadline=None)
def test_a_point_has_what_applies_alone_and_is_the_same_again(searcher: Any, seed: int, number: int) -> None:
    proposals = Proposals(_space(RANGES), searcher, seed)
    values = proposals.propose(number, [])
    assert values == Proposals(_space(RANGES), searcher, seed).propose(number, [])
    assert all(proposals.space[key].holds(value) for key, value in values.items())
    assert set(values) == {"method", "rate", "share", "sizes"} | {"rank" if values["method"] == "lora" else "layers"}


def test_points_differ_with_their_number_and_seed() -> None:
    space = _space(RANGES)
    points = [Proposals(space, "random", seed).propose(number, []) for seed in (0, 1) for number in range(10)]
    assert len({point["rate"] for point in points}) == 20


def test_the_logarithm_is_what_is_uniform() -> None:
    proposals = Proposals(_space({"rate": {"log_uniform": [1e-6, 1e-2]}}), "random", 0)
    drawn = [math.log10(proposals.propose(number, [])["rate"]) for number in range(300)]
    assert abs(np.mean(drawn) + 4) < 0.2 and abs(np.std(drawn) - 4 / math.sqrt(12)) < 0.1


def test_first_points_come_first_and_what_they_leave_out_is_drawn() -> None:
    first = ({"method": "lora", "rank": 8, "rate": 1e-3, "share": 0.25, "sizes": {"a": None}}, {"method": "full"})
    proposals = Proposals(_space(RANGES), "optuna", 3, first=first)
    assert proposals.propose(0, []) == first[0]
    second = proposals.propose(1, [Told(first[0], (0.5,))])
    assert second["method"] == "full" and set(second) == {"method", "rate", "share", "sizes", "layers"}


def test_a_grid_has_each_combination_that_applies_once() -> None:
    ranges = {
        "a": {"choice": [1, 2]},
        "b": {"integer": [0, 2], "when": {"a": [2]}},
        "c": {"grid": ["x", "y"]},
    }
    proposals = Proposals(_space(ranges), "grid", 0)
    combinations = proposals.combinations()
    assert len(combinations) == 2 * (1 + 3)
    assert [proposals.propose(number, []) for number in range(8)] == combinations
    assert len({tuple(sorted(point.items())) for point in combinations}) == 8


def test_a_grid_beside_other_keys_is_taken_in_turn_and_they_are_drawn() -> None:
    proposals = Proposals(_space({"a": {"grid": [1, 2, 3]}, "rate": {"uniform": [0, 1]}}), "random", 0)
    points = [proposals.propose(number, []) for number in range(6)]
    assert [point["a"] for point in points] == [1, 2, 3, 1, 2, 3]
    assert len({point["rate"] for point in points}) == 6


def test_optuna_is_nearer_to_the_best_than_random() -> None:
    """Of ten searches of 40 trials each, the mean of the best."""

    def worth(values: dict[str, Any]) -> tuple[float, ...]:
        return (-((math.log10(values["rate"]) + 3) ** 2) - (values["share"] - 0.2) ** 2 * 20,)

    space = _space({key: RANGES[key] for key in ("rate", "share")})
    best = {
        searcher: np.mean(
            [
                max(one.worth or (0,) for one in _searched(Proposals(space, searcher, seed), worth, 40))
                for seed in range(10)
            ]
        )
        for searcher in ("random", "optuna")
    }
    assert best["optuna"] > best["random"] / 3, best


def test_two_objectives_find_the_front_of_a_known_function() -> None:
    """Schaffer's function (1985): x^2 and (x - 2)^2, both to be small; its front is x in [0, 2]."""
    proposals = Proposals(_space({"x": {"uniform": [-10, 10]}}), "optuna", 0, higher_is_better=(False, False))
    told = _searched(proposals, lambda values: (values["x"] ** 2, (values["x"] - 2) ** 2), 80)
    front = pareto_front([one.worth or () for one in told], (False, False))
    found = sorted(told[place].values["x"] for place in front)
    assert all(-0.05 <= x <= 2.05 for x in found), found
    assert len(found) >= 10 and found[0] < 0.5 and found[-1] > 1.5
    in_front = [one for one in told if 0 <= one.values["x"] <= 2]
    assert len(in_front) > 3 * 80 * 2 / 20, "thrice as many as by chance"


def test_a_constraint_keeps_points_to_where_it_is_met() -> None:
    """What is searched for grows with x, and x over one half is not allowed."""
    proposals, told = Proposals(_space({"x": {"uniform": [0, 1]}}), "optuna", 0), list[Told]()
    for number in range(60):
        x = proposals.propose(number, told)["x"]
        told.append(Told({"x": x}, (x,), violation=x - 0.5))
    later = [one.values["x"] for one in told[20:]]
    free = [one.values["x"] for one in _searched(proposals, lambda values: (values["x"],), 60)[20:]]
    allowed, unbound = (np.mean([x <= 0.5 for x in points]) for points in (later, free))
    assert allowed > 0.4 and unbound < 0.2, (later, free)
    assert np.mean([abs(x - 0.5) < 0.15 for x in later]) > 0.5, "near to the bound, where the best of the allowed is"


def test_what_failed_and_what_runs_is_told_too() -> None:
    space = _space({"x": {"uniform": [0, 1]}})
    told = [Told({"x": 0.5}, None), Told({"x": 0.4}, None, running=True), Told({"x": 0.1}, (math.nan,))]
    told += [Told({"x": number / 20}, (number / 20,)) for number in range(20)]
    assert Proposals(space, "optuna", 0, startup_trials=5).propose(30, told)["x"] > 0.3


def test_the_front_of_points() -> None:
    points = [(1.0, 1.0), (2.0, 0.5), (0.5, 2.0), (1.0, 1.0), (0.4, 0.4), (math.nan, 9.0)]
    assert pareto_front(points, (True, True)) == [0, 1, 2, 3]
    assert pareto_front(points, (True, False)) == [1, 4]
    assert pareto_front([], (True,)) == []
