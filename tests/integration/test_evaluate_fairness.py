"""Fairness in the shared evaluation: measured beside quality, a bound on who is chosen, a gate before a name."""

import csv
import io
from typing import Any

import pytest

from jobs.runtime.endings import own_error
from llmcore.errors import ConfigError, GateError
from llmcore.tasks.columns import TEXT_AND_LABEL
from llmcore.tasks.evaluation_set import write_evaluation_set
from tests.judged import TASK, WORDS, InProcess, World, four_trials

PAIRS = [list(pair) for pair in zip(WORDS[0].split(), WORDS[1].split(), strict=True)]
"""Swapped, a row is one of another class: what a model says of it moves."""
FAIRNESS = {"counterfactuals": {"pairs": PAIRS}, "groups": ["side"]}


@pytest.fixture
def people(world: World, judge: type[InProcess]) -> World:
    """A search on a set whose rows are of two sides."""
    tables = {
        split: [world.labelled.rows(split).append_column("side", [["left", "right"] * (num_rows // 2)])]
        for split, num_rows in (("train", 12), ("validation", 18), ("test", 24))
    }
    columns = TEXT_AND_LABEL.with_metadata(("side",))
    world.labelled = write_evaluation_set(world.storage, "sides", TASK.label_names, tables, columns=columns)  # type: ignore[arg-type]
    four_trials(world)
    return world


def test_it_stands_beside_quality_with_intervals(people: World) -> None:
    result = people.evaluate(fairness=FAIRNESS)
    content = people.metrics()
    measured = ("counterfactual_gap", "counterfactual_flips", "selection_rate_gap[side]", "calibration_gap[side]")
    gap = result["test"]["counterfactual_gap"]
    assert set(measured) <= set(result["test"]) and gap["low"] <= gap["value"] <= gap["high"] and gap["value"] > 0
    assert set(measured) <= set(content["lower_is_better"])
    assert set(content["differences"]["chosen - runner_up"]) >= set(measured)
    assert "counterfactual_gap" not in content["baselines"]["majority"]["test"], "it reads no text"
    board = people.storage / "judged" / "evaluation"
    (first, *_) = csv.DictReader(io.StringIO(board.read_text("leaderboard.csv")))
    assert float(first["test_counterfactual_gap_low"]) <= float(first["test_counterfactual_gap"])
    assert "counterfactual_gap, validation" in board.read_text("leaderboard.md")
    again = people.evaluate(name="later")
    assert "counterfactual_gap" not in again["test"], "another suite"


def test_rows_that_name_nobody_have_no_counterfactual(people: World) -> None:
    people.evaluate(fairness=FAIRNESS)
    import pyarrow.parquet as pq

    table = pq.read_table(f"{people.storage.url}/judged/evaluation/predictions.parquet").to_pylist()
    of_chosen = [row for row in table if row["model"] == people.metrics()["chosen"] and row["split"] == "test"]
    named = [row for row in of_chosen if row["label"] != 2]
    assert len(named) == 16 and all(row["counterfactual_shift"] is not None for row in named)
    assert all(row["counterfactual_flip"] == (row["prediction"] != row["counterfactual_prediction"]) for row in named)
    assert all(row["counterfactual_prediction"] is None for row in of_chosen if row["label"] == 2)
    mean = sum(row["counterfactual_shift"] for row in named) / len(named)
    assert mean == pytest.approx(people.metrics()["models"][0]["test"]["counterfactual_gap"]["value"])


def test_who_moves_too_far_is_not_chosen(people: World) -> None:
    people.evaluate(fairness=FAIRNESS)
    gaps = {
        model["id"]: model["validation"]["counterfactual_gap"]["value"]
        for model in people.metrics()["models"]
        if model["validation"]
    }
    fairest, bound = min(gaps, key=lambda one: gaps[one]), sorted(gaps.values())[0] + 1e-6
    bounded = FAIRNESS | {"max_counterfactual_gap": bound}
    people.evaluate(name="bounded", fairness=bounded)
    content = (people.storage / "bounded" / "evaluation").read_json("metrics.json")
    assert content["chosen"] == fairest
    barred = [model for model in content["models"] if model["id"] in gaps and model["id"] != fairest]
    assert all(f"over max_counterfactual_gap={bound:g}" in model["error"] for model in barred) and len(barred) == 2
    with pytest.raises(
        GateError, match=r"t\d: its counterfactual gap is 0\.\d+ \(.*over max_counterfactual_gap=0"
    ) as why:
        people.evaluate(name="strict", fairness=FAIRNESS | {"max_counterfactual_gap": 0.0})
    assert why.value.exit_code == 3


def test_a_gate_keeps_a_model_from_its_name_and_says_by_how_much(people: World) -> None:
    gap = people.evaluate(fairness=FAIRNESS)["test"]["counterfactual_gap"]["value"]
    with pytest.raises(GateError, match=r"is not published as best: .*which is 0\.\d+ over max_count") as why:
        people.promote("judged", "best", max_counterfactual_gap=gap / 2)
    assert f"{gap - gap / 2:.4f} over" in str(why.value) and own_error(why.value) is why.value
    assert not (people.storage / "best").exists("run.json"), "the name is free"
    promoted = people.promote("judged", "best", max_counterfactual_gap=gap + 0.01)
    assert promoted["test"]["counterfactual_gap"]["value"] == gap
    with pytest.raises(GateError):
        people.promote("judged", "best", max_counterfactual_gap=gap / 2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"fairness": {"groups": ["gender"]}}, "'gender' is no metadata column of 'sides': there is side"),
        ({}, "has not measured that gap"),
    ],
)
def test_what_is_not_known_is_refused(people: World, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        people.evaluate(**given)
        people.promote("judged", "best", max_counterfactual_gap=0.1)
