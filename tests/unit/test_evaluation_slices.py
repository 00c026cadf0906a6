"""Slices have the rows they should, of every kind of set, and the metrics of those rows."""

import json

import numpy as np
import pyarrow as pa
import pytest

from llmcore.evaluation.bootstrap import Measured, Resampling
from llmcore.evaluation.figures import figures_json
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.metrics import make_metrics
from llmcore.evaluation.slices import OTHER, slice_rows, slices_json
from tests.predictions import classes, rows_of


def members(slices: dict[str, dict[str, np.ndarray]], by: str) -> dict[str, list[int]]:
    return {name: index.tolist() for name, index in slices[by].items()}


def test_rows_are_sliced_by_length_label_and_metadata() -> None:
    rows = rows_of(
        text=["one two", "w " * 16, "w " * 600, "one"],
        text_pair=["three", "w " * 15, "", "w " * 14],
        label=[0, 1, 1, 0],
        source=["x", "y", "x", None],
        year=[1, 2, 3, 4],  # no string: not metadata to slice by
    )
    slices = slice_rows(classes(3), rows)
    assert members(slices, "length") == {"0-15 words": [0, 3], "16-31 words": [1], "512 or more words": [2]}
    assert members(slices, "label") == {"c0": [0, 3], "c1": [1, 2]}
    assert members(slices, "source") == {"": [3], "x": [0, 2], "y": [1]}
    assert set(slices) == {"length", "label", "source"}


def test_a_row_of_several_labels_is_in_the_slice_of_each() -> None:
    rows = rows_of(text=["a", "b", "c"], labels=[[0, 2], [], [2]])
    assert members(slice_rows(classes(3, multi_label=True), rows), "label") == {"c0": [0], "c2": [0, 2]}


def test_rare_values_are_one_slice_together_and_no_row_is_left_out() -> None:
    values = [f"v{row % 30:02}" for row in range(75)]  # v00 … v14 stand three times, the others twice
    parts = slice_rows(classes(2), rows_of(text=["t"] * 75, label=[0] * 75, where=values))["where"]
    assert len(parts) == 21
    assert {f"v{number:02}" for number in range(15)} < set(parts)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(75))
    assert len(parts[OTHER]) == 20


@pytest.mark.parametrize(
    "kind, columns, words",
    [
        ("question_answering", {"question": "who is it", "context": "it is me", "answers": []}, 6),
        ("translation", {"source": "ein Mann", "target": "a man"}, 2),
        ("summarization", {"document": "long and short", "summary": "x"}, 3),
        ("text_generation", {"prompt": "once", "completion": "upon a time"}, 1),
        ("code_generation", {"prompt": "add two", "setup": "import x", "solution": "y", "tests": ["z"]}, 2),
        (
            "chat",
            {
                "messages": [
                    {"role": "user", "content": "how are you"},
                    {"role": "assistant", "content": "fine, and you"},
                ]
            },
            3,
        ),
    ],
)
def test_the_length_is_of_what_a_model_is_given(kind: str, columns: dict[str, object], words: int) -> None:
    rows = rows_of(topic=["a"], **{name: [value] for name, value in columns.items()})
    assert Subject(kind).input_words(rows) == [words]
    assert Subject(kind).metadata(rows) == ["topic"]


def test_a_slice_has_its_rows_its_groups_and_an_interval_where_there_is_more_than_one_group() -> None:
    subject = classes(2)
    labels, predicted = [0, 0, 1, 1, 1, 0], [0, 1, 1, 1, 1, 0]
    groups = ["g0", "g0", "g1", "g1", "g2", "g3"]
    rows = rows_of(groups, text=["t"] * 6, label=labels, prediction=predicted, from_=["a", "a", "a", "b", "b", "a"])
    measured = Measured.of(make_metrics(subject, ["accuracy", "macro_f1"]), rows)
    slices = {"by": {"a": np.array([0, 1, 2, 5]), "one": np.array([0, 1])}}
    found = slices_json(slices, measured, Resampling(200, 0))["by"]
    assert (found["a"]["num_rows"], found["a"]["num_groups"]) == (4, 3)
    interval = found["a"]["metrics"]["accuracy"]
    assert interval["value"] == 0.75 and interval["low"] <= 0.75 <= interval["high"]
    assert found["one"] == {
        "num_rows": 2,
        "num_groups": 1,
        "metrics": {"accuracy": {"value": 0.5}, "macro_f1": {"value": pytest.approx(1 / 3)}},
    }
    assert json.loads(json.dumps(found)) == found


def test_figures_are_what_a_confusion_matrix_and_a_calibration_curve_need() -> None:
    rows = rows_of(
        label=[0, 0, 1, 1],
        prediction=[0, 0, 0, -1],
        probabilities=[[0.9, 0.1], [0.92, 0.08], [0.6, 0.4], [0.5, 0.5]],
    )
    figures = figures_json(classes(2), rows)
    assert figures["confusion"] == [[0, 0, 2], [1, -1, 1], [1, 0, 1]]
    assert figures["calibration"] == [
        {"num": 1, "confidence": 0.5, "right": 0.0},
        {"num": 1, "confidence": 0.6, "right": 0.0},
        {"num": 2, "confidence": pytest.approx(0.91), "right": 1.0},
    ]
    assert figures_json(Subject("translation"), pa.table({"target": ["x"]})) == {}
