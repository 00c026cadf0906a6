"""Thresholds by group, found on validation, that make rates of groups equal on other rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from llmcore.config.fairness import FairnessChecks, ThresholdSettings
from llmcore.errors import ConfigError
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.metrics import fairness_metrics
from llmcore.evaluation.metrics.classes import Classes
from llmcore.evaluation.results import Evaluation, evaluate_once
from llmcore.evaluation.score import Predictions
from llmcore.evaluation.suite import Suite
from llmcore.evaluation.thresholds import group_thresholds, with_thresholds
from llmcore.storage import Folder
from llmcore.tasks.columns import TEXT_AND_LABEL
from llmcore.tasks.evaluation_set import write_evaluation_set

CLASSES = Classes(("no", "yes"), multi_label=False)


def people(seed: int, num_rows: int = 16_000) -> pa.Table:
    """Half of both groups are `yes`; the scores of men are higher by 0.2 than those of women."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, num_rows)
    groups = np.array(["f", "m"])[draw.integers(0, 2, num_rows)]
    score = np.clip(0.3 + 0.2 * labels + 0.2 * (groups == "m") + draw.normal(0, 0.1, num_rows), 0, 1)
    return pa.table(
        {
            "id": [f"{seed}-{row}" for row in range(num_rows)],
            "label": pa.array(labels, pa.int32()),
            "prediction": pa.array((score >= 0.5).astype(int), pa.int32()),
            "probabilities": [[1 - one, one] for one in score.tolist()],
            "gender": groups.tolist(),
        }
    )


def rates(rows: pa.Table, of_label: int | None) -> dict[str, float]:
    data = rows.to_pandas()
    data = data if of_label is None else data[data.label == of_label]
    return dict(data.groupby("gender").prediction.mean())


@pytest.mark.parametrize(("equal", "of_label"), [("selection_rate", None), ("true_positive_rate", 1)])
def test_rates_are_equal_on_rows_that_were_not_seen(equal: str, of_label: int | None) -> None:
    settings = ThresholdSettings(by="gender", equal=equal)  # type: ignore[arg-type]
    validation, test = people(0), people(1)
    before = rates(test, of_label)
    assert before["m"] - before["f"] > 0.25
    found = group_thresholds(validation, CLASSES, settings)
    assert found["m"] - found["f"] == pytest.approx(0.2, abs=0.03)
    after = rates(with_thresholds(test, found, "gender"), of_label)
    assert abs(after["m"] - after["f"]) < 0.05


def test_thresholds_by_hand() -> None:
    """At one half 3 of 6 are chosen: so are 2 of 4 women, and 1 of 2 men."""
    rows = pa.table(
        {
            "id": list("abcdef"),
            "label": pa.array([1, 0, 1, 0, 1, 0], pa.int32()),
            "prediction": pa.array([1, 0, 0, 0, 1, 1], pa.int32()),
            "probabilities": [[1 - one, one] for one in (0.6, 0.4, 0.2, 0.1, 0.9, 0.7)],
            "gender": ["f", "f", "f", "f", "m", "m"],
        }
    )
    found = group_thresholds(rows, CLASSES, ThresholdSettings(by="gender"))
    assert found == pytest.approx({"f": 0.3, "m": 0.8})
    assert with_thresholds(rows, found, "gender")["prediction"].to_pylist() == [1, 1, 0, 0, 1, 0]
    stranger = rows.set_column(4, "gender", pa.array([None, "x", "f", "f", "m", "m"], pa.string()))
    assert with_thresholds(stranger, found, "gender")["prediction"].to_pylist()[:2] == [1, 0], "one half"


@pytest.mark.parametrize(("scores", "chosen"), [([0.1, 0.2], 0), ([0.8, 0.9], 2)])
def test_none_or_all_may_be_chosen(scores: list[float], chosen: int) -> None:
    rows = people(0, 2).set_column(3, "probabilities", pa.array([[1 - one, one] for one in scores]))
    rows = rows.set_column(4, "gender", pa.array(["f", "f"]))
    found = group_thresholds(rows, CLASSES, ThresholdSettings(by="gender"))
    assert sum(with_thresholds(rows, found, "gender")["prediction"].to_pylist()) == chosen


def test_more_than_two_classes_are_refused() -> None:
    checks = FairnessChecks(groups=["gender"], thresholds=ThresholdSettings(by="gender"))
    with pytest.raises(ConfigError, match=r"fairness\.thresholds is of two classes, one a row, and there are 3"):
        fairness_metrics(Subject("text_classification", ("a", "b", "c")), checks)
    with pytest.raises(ValueError, match=r"thresholds\.by='gender' is none of groups=\[\]"):
        FairnessChecks(thresholds=ThresholdSettings(by="gender"))


def test_they_are_found_on_validation_and_used_on_test(tmp_path: Path) -> None:
    storage, made = Folder(str(tmp_path)), {"validation": people(0), "test": people(1)}
    tables = {
        split: [
            rows.append_column("text", pa.array([f"{split}{row}" for row in range(rows.num_rows)])).append_column(
                "group", rows["id"]
            )
        ]
        for split, rows in made.items()
    }
    columns = TEXT_AND_LABEL.with_metadata(("gender",))
    labelled = write_evaluation_set(storage, "people", ["no", "yes"], tables, columns=columns)  # type: ignore[arg-type]
    checks = FairnessChecks(counterfactuals=None, groups=["gender"], thresholds=ThresholdSettings(by="gender"))
    suite = Suite(labelled.hash, Subject.of(labelled), ("accuracy",), "accuracy", 100, 0, fairness=checks)

    def judged(model: str, split: Any) -> Evaluation:
        def predict(rows: pa.Table) -> Predictions:
            kept = ["id", "label", "prediction", "probabilities"]
            return Predictions(made[split].select(kept).append_column("group", rows["group"]), 0)

        return evaluate_once(storage, labelled, suite, split, model_sha256=model, predict=predict, who={"run": "r"})

    judged("model", "validation")
    test, alone = judged("model", "test"), judged("never judged on validation", "test")
    found = group_thresholds(made["validation"], CLASSES, ThresholdSettings(by="gender"))
    assert test.details["thresholds"] == found and alone.details["thresholds"] == {}
    gap, before = (one.metrics["selection_rate_gap[gender]"].value for one in (test, alone))
    assert before < -0.25 and abs(gap) < 0.05, "women less men"
    assert test.predictions()["prediction"].to_pylist() != made["test"]["prediction"].to_pylist()
