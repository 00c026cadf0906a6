"""Metrics from confusion matrices are scikit-learn's, also where a class is absent."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcore.evaluation.metrics import METRICS, group_confusions

NUM_CLASSES = 4
ROWS = st.lists(
    st.tuples(st.integers(0, NUM_CLASSES - 1), st.integers(0, NUM_CLASSES - 1), st.sampled_from("abcde")), min_size=1
)


@pytest.mark.parametrize("metric", sorted(METRICS))
@given(rows=ROWS)
def test_confusions_give_the_number_of_scikit_learn(metric: str, rows: list[tuple[int, int, str]]) -> None:
    labels, predictions, groups = map(list, zip(*rows, strict=True))
    confusions = group_confusions(labels, predictions, groups, NUM_CLASSES)
    ours = float(METRICS[metric].of_confusions(confusions.sum(axis=0)))
    assert ours == pytest.approx(METRICS[metric].of_predictions(labels, predictions), abs=1e-12)


@given(rows=ROWS)
def test_each_group_has_its_own_rows(rows: list[tuple[int, int, str]]) -> None:
    labels, predictions, groups = map(list, zip(*rows, strict=True))
    confusions = group_confusions(labels, predictions, groups, NUM_CLASSES)
    assert len(confusions) == len(set(groups))
    for name, matrix in zip(sorted(set(groups)), confusions, strict=True):
        own = [row for row in rows if row[2] == name]
        assert matrix.sum() == len(own)
        assert all(matrix[label, predicted] == own.count((label, predicted, name)) for label, predicted, _ in own)


def test_many_confusion_matrices_at_once_are_each_by_itself() -> None:
    confusions = np.random.default_rng(0).integers(0, 5, size=(7, NUM_CLASSES, NUM_CLASSES))
    for metric in METRICS.values():
        assert metric.of_confusions(confusions) == pytest.approx(
            [float(metric.of_confusions(one)) for one in confusions]
        )
