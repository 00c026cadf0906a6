"""From a transfer's points to its curves: each number from the predictions of the points that were measured."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from llmcore.config.transfer import Point
from llmcore.cost.transfer import Amount, BreakEven
from llmcore.errors import CheckpointError
from llmcore.evaluation.bootstrap import Measured, Resampling
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.metrics import make_metrics
from llmcore.evaluation.transfer import PREDICTIONS, finished_points, point_folder
from llmcore.storage import Folder
from tests.transfers import NUM_ROWS, given_outcome, transfer_config

PRETRAINED_10, PRETRAINED_100 = (Point("pretrained", labels, 1.0, 0) for labels in (10, 100))
RANDOM_10, RANDOM_100 = (Point("random", labels, 1.0, 0) for labels in (10, 100))
AHEAD = {PRETRAINED_10: (30, 2.0), PRETRAINED_100: (38, 20.0), RANDOM_10: (20, 2.0), RANDOM_100: (32, 20.0)}


def test_each_point_is_its_predictions_metric_with_an_interval(tmp_path: Path) -> None:
    outcome = given_outcome(tmp_path, AHEAD)
    found = {(cell.weights, cell.labels): cell for cell in outcome.cells}
    assert len(found) == 4 and outcome.num_rows == NUM_ROWS
    for point, (right, cost) in AHEAD.items():
        cell = found[point.weights, point.labels]
        assert cell.quality.value == pytest.approx(right / NUM_ROWS)
        assert cell.quality.low < cell.quality.value < cell.quality.high
        assert (cell.device_seconds, cell.flops) == (cost, 1000 * cost)
        assert {*cell.metrics} == {"accuracy", "macro_f1", "micro_f1"}


def test_a_difference_is_of_the_same_rows(tmp_path: Path) -> None:
    outcome = given_outcome(tmp_path, AHEAD)
    gain = outcome.differences[100, 1.0]
    assert gain.value == pytest.approx(6 / NUM_ROWS)
    apart = outcome.of("pretrained")[1].quality, outcome.of("random")[1].quality
    assert gain.high - gain.low < sum(one.high - one.low for one in apart), "what both have right or wrong cancels"


def test_equal_quality_and_when_it_is_paid_for(tmp_path: Path) -> None:
    outcome = given_outcome(tmp_path, AHEAD, pretraining=100.0)
    last = outcome.by_cost("device_seconds")[-1]
    assert last.quality == pytest.approx(32 / NUM_ROWS)
    assert last.second == Amount(20.0)
    assert last.first.value == pytest.approx(2.0 * 10 ** (2 / 8))
    assert outcome.paid_off("device_seconds") == outcome.paid_off("flops") == BreakEven("after", Amount(7.0))
    (labels,) = outcome.by_labels().values()
    assert labels[-1].second == Amount(100) and 10 < labels[-1].first.value < 20
    assert given_outcome(tmp_path / "unknown", AHEAD).paid_off("device_seconds") is None


def test_when_it_is_paid_for_has_an_interval_of_the_rows(tmp_path: Path) -> None:
    outcome = given_outcome(tmp_path, AHEAD, pretraining=100.0, num_resamples=500)
    between = outcome.paid_off_between("device_seconds")
    assert between is not None and between.low <= 7.0 <= between.high and between == outcome.paid_off_between("flops")
    assert between.low == 6.0, "a task saves 18 at most: the smallest budget is the cheapest"
    # By hand, draw by draw: the level is what random weights reach in it.
    drawn = dict(zip(outcome.draws, np.array([*outcome.draws.values()]), strict=True))
    never = np.mean(drawn["pretrained", 100, 1.0] < drawn["random", 100, 1.0])
    assert between.never == pytest.approx(never, abs=0.01)
    assert given_outcome(tmp_path / "unknown", AHEAD).paid_off_between("flops") is None


def test_two_ways_that_are_alike_are_told_by_no_finite_number(tmp_path: Path) -> None:
    alike = {PRETRAINED_10: (20, 2.0), PRETRAINED_100: (32, 20.0), RANDOM_10: (20, 2.0), RANDOM_100: (32, 20.0)}
    between = given_outcome(tmp_path, alike, pretraining=100.0).paid_off_between("flops")
    assert between is not None and between.never == 1.0 and between.low == between.high == float("inf")
    assert between.to_json() == {"low": None, "high": None, "never": 1.0, "open": 0.0}


def test_lower_values_are_better_where_the_metric_says_so(tmp_path: Path) -> None:
    outcome = replace(given_outcome(tmp_path, AHEAD), higher_is_better=False)
    levels = [one.quality for one in outcome.by_cost("device_seconds")]
    assert levels == [pytest.approx(30 / NUM_ROWS)]


def test_seeds_are_a_mean_on_the_same_draws(tmp_path: Path) -> None:
    again = {point._replace(seed=1): (right - 4, 2 * cost) for point, (right, cost) in AHEAD.items()}
    outcome = given_outcome(tmp_path, AHEAD | again, seeds=[0, 1])
    cell = next(cell for cell in outcome.of("random") if cell.labels == 100)
    assert cell.of_seeds == pytest.approx((32 / NUM_ROWS, 28 / NUM_ROWS))
    assert cell.quality.value == pytest.approx(30 / NUM_ROWS)
    assert cell.device_seconds == 30.0


def test_a_mean_of_models_is_the_mean_of_their_draws() -> None:
    metrics = make_metrics(Subject("text_classification", ("no", "yes")), ["accuracy"])
    generator = np.random.default_rng(0)
    ids, labels = [str(row) for row in range(30)], generator.integers(0, 2, 30)

    def measured() -> Measured:
        told = pa.array(generator.integers(0, 2, 30), pa.int32())
        return Measured.of(metrics, pa.table({"id": ids, "group": ids, "label": labels, "prediction": told}))

    models, counts = [measured(), measured(), measured()], generator.integers(0, 3, (5, 30)).astype(float)
    values = [model.resampled()["accuracy"](counts) for model in models]
    assert np.allclose(Measured.mean(models).resampled()["accuracy"](counts), np.mean(values, axis=0))
    assert Measured.mean(models[:1]).intervals(Resampling(50, 0)) == models[0].intervals(Resampling(50, 0))
    with pytest.raises(ValueError, match="rows differ"):
        Measured.mean([models[0], Measured(ids[1:], models[0].groups[1:], models[0].measures, {})])


def test_what_diverged_is_on_no_curve(tmp_path: Path) -> None:
    rest = {point: of for point, of in AHEAD.items() if point != RANDOM_100}
    outcome = given_outcome(tmp_path, rest, diverged=(RANDOM_100,))
    assert outcome.diverged == {RANDOM_100.id: "step 3: the loss is nan"}
    assert [cell.labels for cell in outcome.of("random")] == [10]
    assert [*outcome.differences] == [(10, 1.0)]


def test_the_records_are_plain(tmp_path: Path) -> None:
    outcome = given_outcome(tmp_path, AHEAD, pretraining=100.0)
    record = json.loads(json.dumps(outcome.to_json(), allow_nan=False))
    assert record["equal_by_cost"]["device_seconds"][-1]["random"] == {"value": 20.0, "bound": "exact"}
    paid_off = record["paid_off"]["flops"]
    assert paid_off["interval"] == outcome.paid_off_between("flops").to_json()  # type: ignore[union-attr]
    assert paid_off | {"interval": 0} == {
        "verdict": "after",
        "tasks": {"value": 7.0, "bound": "exact"},
        "interval": 0,
    }
    rows = list(csv.DictReader(io.StringIO(outcome.to_csv())))
    assert [(row["weights"], row["labels"], float(row["value"])) for row in rows][-1] == ("random", "100", 0.8)
    assert {"low", "high", "device_seconds", "flops"} <= {*rows[0]}


def test_a_point_is_there_or_it_is_not(tmp_path: Path) -> None:
    config, run = transfer_config(), Folder(str(tmp_path)) / "bought"
    given_outcome(tmp_path, AHEAD)
    folder = point_folder(run, RANDOM_10)
    folder.write_bytes(PREDICTIONS, b"torn")
    with pytest.raises(CheckpointError, match=r"predictions\.parquet is not the file that was published"):
        given_outcome(tmp_path, {})
    folder.delete("manifest.json")
    assert [*finished_points(run, config.points())] == [PRETRAINED_10, PRETRAINED_100, RANDOM_100]
