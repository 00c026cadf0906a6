"""A model is judged once; a test split is looked at once by each model and suite, and each look is written down."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import accuracy_score, f1_score

from llmcore.config.generation import GenerationSettings
from llmcore.errors import CheckpointError
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.leaderboard import Entry, rank
from llmcore.evaluation.register import looks
from llmcore.evaluation.results import Evaluation, difference, evaluate_once, stored_evaluation
from llmcore.evaluation.score import Predictions, predictions_table
from llmcore.evaluation.suite import Suite
from llmcore.storage import Folder
from llmcore.tasks.columns import KINDS
from llmcore.tasks.evaluation_set import EvaluationSet, write_evaluation_set
from tests.predictions import classes

LABELS = ["files", "text", "time"]
WHO = {"run": "e", "attempt": 1}


class Model:
    """Right in a share of the rows; counts how often it is asked, and whether the look was registered by then."""

    def __init__(self, right: float, seed: int = 0) -> None:
        self.right, self.seed, self.asked = right, seed, 0

    def predict(self, rows: pa.Table) -> Predictions:
        self.asked += 1
        generator = np.random.default_rng(self.seed)
        labels = rows["label"].to_numpy()
        predicted = np.where(generator.random(len(labels)) < self.right, labels, (labels + 1) % 3)
        probabilities = np.eye(3, dtype=np.float32)[predicted]
        columns = {"prediction": predicted.astype(np.int32), "probabilities": probabilities}
        return Predictions(predictions_table(KINDS["text_classification"].references, rows, columns), num_truncated=2)


@pytest.fixture
def storage(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path))


@pytest.fixture
def labelled(storage: Folder) -> EvaluationSet:
    def rows(split: str, num_rows: int) -> pa.Table:
        return pa.table(
            {
                "id": [f"{split}{row}" for row in range(num_rows)],
                "text": [f"{split} text {row}" for row in range(num_rows)],
                "label": pa.array([row % 3 for row in range(num_rows)], pa.int32()),
                "group": [f"{split}{row // 4}" for row in range(num_rows)],
            }
        )

    tables = {"train": [rows("train", 9)], "validation": [rows("validation", 60)], "test": [rows("test", 80)]}
    return write_evaluation_set(storage, "areas", LABELS, tables)  # type: ignore[arg-type]


@pytest.fixture
def suite(labelled: EvaluationSet) -> Suite:
    return Suite(labelled.hash, Subject.of(labelled), ("accuracy", "macro_f1"), "macro_f1", 200, 0)


def test_a_result_is_stored_with_its_predictions_and_not_made_again(
    storage: Folder, labelled: EvaluationSet, suite: Suite
) -> None:
    model = Model(0.8)
    first = evaluate_once(storage, labelled, suite, "validation", model_sha256="m", predict=model.predict, who=WHO)
    again = evaluate_once(storage, labelled, suite, "validation", model_sha256="m", predict=model.predict, who=WHO)
    assert (first, model.asked) == (again, 1)
    assert first == stored_evaluation(storage, "m", suite, "validation")
    table = first.predictions()
    assert table.column_names == ["id", "group", "label", "prediction", "probabilities"]
    assert table["id"].to_pylist() == labelled.rows("validation")["id"].to_pylist()
    labels, predicted = (table[name].to_numpy() for name in ("label", "prediction"))
    assert first.metrics["accuracy"].value == pytest.approx(accuracy_score(labels, predicted))
    assert first.metrics["macro_f1"].value == pytest.approx(f1_score(labels, predicted, average="macro"))
    for interval in first.metrics.values():
        assert interval.low <= interval.value <= interval.high
    assert (first.num_rows, first.num_truncated) == (60, 2)
    assert looks(storage, labelled.split_hash("test")) == []


def test_another_model_suite_or_split_is_another_result(storage: Folder, labelled: EvaluationSet, suite: Suite) -> None:
    model = Model(0.8)
    for changed in (suite, replace(suite, seed=1), replace(suite, num_resamples=300)):
        for split in ("validation", "test"):
            evaluate_once(storage, labelled, changed, split, model_sha256="m", predict=model.predict, who=WHO)
    evaluate_once(storage, labelled, suite, "test", model_sha256="other", predict=model.predict, who=WHO)
    assert model.asked == 7
    recorded = looks(storage, labelled.split_hash("test"))
    assert Counter(look["model_sha256"] for look in recorded) == {"m": 3, "other": 1}
    assert all(look["who"] == WHO for look in recorded)


def test_a_look_is_registered_before_the_rows_are_read_and_once_whatever_is_killed(
    storage: Folder, labelled: EvaluationSet, suite: Suite
) -> None:
    test_hash = labelled.split_hash("test")

    def killed(_: pa.Table) -> Predictions:
        assert len(looks(storage, test_hash)) == 1
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            evaluate_once(storage, labelled, suite, "test", model_sha256="m", predict=killed, who=WHO)
    model = Model(0.8)
    for _ in range(2):
        evaluate_once(storage, labelled, suite, "test", model_sha256="m", predict=model.predict, who=WHO)
    assert (model.asked, len(looks(storage, test_hash))) == (1, 1)


def test_a_test_split_in_another_set_is_the_same_test_split(storage: Folder, labelled: EvaluationSet) -> None:
    tables = {"train": [labelled.rows("train").slice(2)], "test": [labelled.rows("test")]}
    other = write_evaluation_set(storage, "areas", LABELS, tables)  # type: ignore[arg-type]
    assert other.hash != labelled.hash
    for one in (labelled, other):
        suite = Suite(one.hash, Subject.of(one), ("accuracy",), "accuracy", 100, 0)
        evaluate_once(storage, one, suite, "test", model_sha256="m", predict=Model(0.5).predict, who=WHO)
    assert len(looks(storage, labelled.split_hash("test"))) == 2


def test_an_altered_result_is_said_not_believed(storage: Folder, labelled: EvaluationSet, suite: Suite) -> None:
    stored = evaluate_once(
        storage, labelled, suite, "validation", model_sha256="m", predict=Model(0.5).predict, who=WHO
    )
    file = Path(stored.folder.url) / "metrics.json"
    file.write_text(file.read_text().replace("0.", "1.", 1))
    with pytest.raises(CheckpointError, match=r"metrics\.json"):
        stored_evaluation(storage, "m", suite, "validation")


def test_predictions_for_other_rows_are_refused(storage: Folder, labelled: EvaluationSet, suite: Suite) -> None:
    def short(rows: pa.Table) -> Predictions:
        return Model(0.5).predict(rows.slice(1))

    with pytest.raises(ValueError, match="predictions for 59 rows, not the 60"):
        evaluate_once(storage, labelled, suite, "validation", model_sha256="m", predict=short, who=WHO)
    assert stored_evaluation(storage, "m", suite, "validation") is None


def judged(storage: Folder, labelled: EvaluationSet, suite: Suite, right: float, seed: int = 0) -> Evaluation:
    predict, name = Model(right, seed).predict, f"{right}-{seed}"
    return evaluate_once(storage, labelled, suite, "validation", model_sha256=name, predict=predict, who=WHO)


def test_the_leaderboard_ranks_by_validation_and_lists_every_trial(
    storage: Folder, labelled: EvaluationSet, suite: Suite
) -> None:
    good, close, bad = (judged(storage, labelled, suite, *of) for of in ((0.9, 1), (0.9, 2), (0.2, 3)))
    best, second = sorted((good, close), key=lambda one: -one.metrics["macro_f1"].value)
    entries = [
        Entry("t5", "failed", best, "worker died\nof  memory", {"lr": 0.1}),
        Entry("t4", "stopped", bad, None, {"lr": 0.2}, 10),
        Entry("t3", "finished", best, None, {"lr": 0.3}, 30),
        Entry("t2", "finished", second, None, {"wd": 0.0}, 30),
        Entry("t1", "finished", best, None, {"lr": 0.4}, 30),
        Entry("t6", "failed", None, "no model"),
    ]
    board = rank(entries, suite)
    assert [entry.id for entry in board.entries] == ["t1", "t3", "t2", "t4", "t5", "t6"]
    assert board.leader is board.entries[0]
    apart = difference(best, second, suite)["macro_f1"]
    assert board.distinguishable == {"t3": False, "t2": apart.excludes_zero, "t4": True}

    lines = board.to_csv(suite, {"t1": best}).splitlines()
    header = lines[0].split(",")
    assert header[:4] == ["rank", "id", "status", "num_steps"]
    first = dict(zip(header, lines[1].split(","), strict=True))
    assert (first["rank"], first["lr"], first["wd"]) == ("1", "0.4", "")
    assert float(first["test_macro_f1"]) == best.metrics["macro_f1"].value
    assert lines[5].startswith(",t5,failed,") and lines[5].endswith("worker died of memory")
    assert lines[6].endswith("no model")


def test_without_a_model_that_may_be_chosen_there_is_no_leader(
    storage: Folder, labelled: EvaluationSet, suite: Suite
) -> None:
    failed = Entry("t1", "failed", judged(storage, labelled, suite, 0.9), "died")
    assert rank([failed], suite).leader is None
    assert rank([], suite).leader is None


def test_a_suite_hash_covers_every_field() -> None:
    suite = Suite("s", classes(2), ("accuracy",), "accuracy", 100, 0)
    changes: list[dict[str, Any]] = [
        {"set_hash": "t"}, {"subject": Subject("chat")}, {"seed": 1},
        {"metrics": ("macro_f1",)}, {"choose_by": "macro_f1"}, {"num_resamples": 200},
        {"generation": GenerationSettings()}, {"generation": GenerationSettings(method="beam")},
    ]  # fmt: skip
    assert len({suite.hash, *(replace(suite, **change).hash for change in changes)}) == 9
    batches = (replace(suite, generation=GenerationSettings(batch_tokens=size)) for size in (1, 2))
    assert len({one.hash for one in batches}) == 1, "how many answers are written together makes no difference"
    both = replace(suite, choose_by="macro_f1").all_metrics()
    assert [metric.name for metric in both] == ["accuracy", "macro_f1"]
