"""Baselines without training: what they write, and that a look at the test split by them is one look."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from llmcore.evaluation.baselines.copies import COPY_SOURCE, LEAD_3
from llmcore.evaluation.baselines.majority import MajorityClass
from llmcore.evaluation.bootstrap import Measured
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.results import evaluate_once
from llmcore.evaluation.suite import Suite
from llmcore.storage import Folder
from llmcore.tasks.evaluation_set import EvaluationSet, write_evaluation_set
from tests.predictions import rows_of

NAMES = ("no", "yes", "maybe")


def labelled(path: Path, train: list[int], test: list[int]) -> EvaluationSet:
    def table(split: str, labels: list[int]) -> pa.Table:
        ids = [f"{split}{row}" for row in range(len(labels))]
        return pa.table({"id": ids, "text": ids, "label": pa.array(labels, pa.int32()), "group": ids})

    tables: Any = {"train": [table("train", train)], "test": [table("test", test)]}
    return write_evaluation_set(Folder(str(path)), "set", NAMES, tables)


def suite_of(given: EvaluationSet, choose_by: str = "macro_f1") -> Suite:
    return Suite(given.hash, Subject.of(given), ("accuracy", "roc_auc"), choose_by, 100, 0)


@pytest.mark.parametrize(
    "train, test, said",
    [
        ([1, 1, 0], [0, 1, 1, 1], {"class": "yes", "majority_of": "train"}),
        ([1, 1, 0], [0, 0, 0, 1], {"class": "no", "majority_of": "test"}),
        ([1, 0, 2], [0, 0, 2, 1], {"class": "no", "majority_of": "train"}),  # the first of equally frequent ones
    ],
)
def test_the_majority_is_the_better_of_two(tmp_path: Path, train: list[int], test: list[int], said: Any) -> None:
    given = labelled(tmp_path, train, test)
    suite = suite_of(given)
    majority = MajorityClass.of(given, suite)
    found = evaluate_once(
        Folder(str(tmp_path)),
        given,
        suite,
        "test",
        model_sha256=majority.model_sha256,
        predict=majority.predict,
        who={},
    )
    assert majority.describe(found) == said
    assert found.metrics["accuracy"].value == max(np.mean(np.array(test) == index) for index in range(3))
    defined = len(set(test)) == 3  # the area under a class's curve needs a row of it
    assert found.details["undefined"] == ({} if defined else {"roc_auc": "these rows do not define it"})
    assert ("roc_auc" in found.metrics) == defined


def test_the_better_of_two_is_by_the_metric_that_chooses_also_where_lower_is_better(tmp_path: Path) -> None:
    given = labelled(tmp_path, [1, 1, 0], [0, 0, 0, 1])
    table = MajorityClass.of(given, suite_of(given, "calibration_error")).predict(given.rows("test")).table
    assert table["prediction"].to_pylist() == [0] * 4  # certain of the more frequent one, it is less wrong


def test_of_several_labels_the_majority_is_the_most_frequent_combination() -> None:
    subject = Subject("text_classification", NAMES, multi_label=True)
    suite = Suite("s", subject, ("accuracy",), "micro_f1", 100, 0)
    rows = rows_of(text=["a", "b", "c", "d"], labels=[[2, 0], [0, 2], [1], []])
    majority = MajorityClass((1,), suite, "sha")
    table = majority.predict(rows).table
    assert table["prediction"].to_pylist() == [[0, 2]] * 4
    assert table["probabilities"].to_pylist() == [[1.0, 0.0, 1.0]] * 4
    assert Measured.of(suite.all_metrics(), table).values()["accuracy"] == 0.5


def test_the_source_is_its_own_translation() -> None:
    rows = rows_of(source=["ein Mann", ""], target=["a man", "x"])
    table = COPY_SOURCE.predict(rows).table
    assert table.column_names == ["id", "group", "target", "prediction"]
    assert table["prediction"].to_pylist() == ["ein Mann", ""]


@pytest.mark.parametrize(
    "document, lead",
    [
        ("#P1#: Hi.\n#P2#: Hello. You?\n\n#P1#: Good!\n#P2#: Bye.", "#P1#: Hi. #P2#: Hello. You? #P1#: Good!"),
        ("One is 1.5 long. Two! “Three?” Four.", "One is 1.5 long. Two! “Three?”"),
        ('First one. He said "no." Then he left. And came.', 'First one. He said "no." Then he left.'),
        ("Only one", "Only one"),
        ("", ""),
    ],
)
def test_the_lead_is_three_turns_or_sentences(document: str, lead: str) -> None:
    rows = rows_of(document=[document], summary=["s"])
    assert LEAD_3.predict(rows).table["prediction"].to_pylist() == [lead]


def test_what_a_baseline_is_made_of_names_it(tmp_path: Path) -> None:
    one, other = labelled(tmp_path, [1, 1, 0], [0, 1]), labelled(tmp_path, [0, 0, 1], [0, 1])
    hashes = {MajorityClass.of(one, suite_of(one)).model_sha256, MajorityClass.of(other, suite_of(other)).model_sha256}
    assert len({*hashes, COPY_SOURCE.model_sha256, LEAD_3.model_sha256}) == 4
