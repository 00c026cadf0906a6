"""Metrics of classes and probabilities are scikit-learn's, also where a class is absent."""

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve
from sklearn.exceptions import UndefinedMetricWarning

from llmcore.errors import CorpusError
from llmcore.evaluation.metrics.base import Additive
from llmcore.evaluation.metrics.registry import make_metric
from tests.predictions import classes, rows_of, value, values

pytestmark = pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
NUM = 4
PAIRS = st.lists(st.tuples(st.integers(0, NUM - 1), st.integers(0, NUM - 1)), min_size=1, max_size=30)
SEEDS = st.integers(0, 2**32 - 1)


@given(pairs=PAIRS)
def test_of_one_label_they_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    true, predicted = map(list, zip(*pairs, strict=True))
    ours = values(
        classes(NUM),
        ["accuracy", "macro_f1", "micro_f1", "f1_by_class", "matthews"],
        rows_of(label=true, prediction=predicted),
    )
    by_class = sk.f1_score(true, predicted, average=None, labels=range(NUM), zero_division=0.0)
    theirs = {
        "accuracy": sk.accuracy_score(true, predicted),
        "macro_f1": sk.f1_score(true, predicted, average="macro", zero_division=0.0),
        "micro_f1": sk.f1_score(true, predicted, average="micro"),
        **{f"f1[c{index}]": one for index, one in enumerate(by_class)},
        "matthews": sk.matthews_corrcoef(true, predicted),
    }
    assert ours == pytest.approx(theirs, abs=1e-12)


@given(pairs=st.lists(st.tuples(st.integers(0, NUM - 1), st.integers(-1, NUM - 1)), min_size=1, max_size=30))
def test_a_prediction_of_no_class_is_wrong_and_a_class_to_no_one(pairs: list[tuple[int, int]]) -> None:
    true, predicted = map(list, zip(*pairs, strict=True))
    present = sorted(({*true} | {*predicted}) - {-1})
    ours = values(
        classes(NUM), ["accuracy", "macro_f1", "micro_f1", "matthews"], rows_of(label=true, prediction=predicted)
    )
    theirs = {
        "accuracy": sk.accuracy_score(true, predicted),
        "macro_f1": sk.f1_score(true, predicted, average="macro", labels=present, zero_division=0.0),
        "micro_f1": sk.f1_score(true, predicted, average="micro", labels=present, zero_division=0.0),
        "matthews": sk.matthews_corrcoef(true, predicted),
    }
    assert ours == pytest.approx(theirs, abs=1e-12)


def indicators(generator: np.random.Generator, num_rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    true = generator.random((num_rows, NUM)) < generator.random(NUM)
    probabilities = np.round(generator.random((num_rows, NUM)), 1)  # with ties
    return true, probabilities > 0.5, probabilities


def lists(member: np.ndarray) -> list[list[int]]:
    return [np.flatnonzero(row).tolist() for row in member]


@given(seed=SEEDS, num_rows=st.integers(1, 30))
def test_of_several_labels_they_are_scikit_learns(seed: int, num_rows: int) -> None:
    true, predicted, _ = indicators(np.random.default_rng(seed), num_rows)
    ours = values(
        classes(NUM, multi_label=True),
        ["accuracy", "macro_f1", "micro_f1", "f1_by_class"],
        rows_of(labels=lists(true), prediction=lists(predicted)),
    )
    by_class = sk.f1_score(true, predicted, average=None, zero_division=0.0)
    theirs = {
        "accuracy": sk.accuracy_score(true, predicted),
        "macro_f1": sk.f1_score(true, predicted, average="macro", zero_division=0.0),
        "micro_f1": sk.f1_score(true, predicted, average="micro", zero_division=0.0),
        **{f"f1[c{index}]": one for index, one in enumerate(by_class)},
    }
    assert ours == pytest.approx(theirs, abs=1e-12)


def simplex(generator: np.random.Generator, num_rows: int, num: int) -> np.ndarray:
    """Probabilities with ties."""
    parts = generator.integers(1, 5, size=(num_rows, num)).astype(float)
    return parts / parts.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("num", [2, 3, NUM])
@given(seed=SEEDS, num_rows=st.integers(NUM, 40))
def test_roc_auc_is_scikit_learns(num: int, seed: int, num_rows: int) -> None:
    generator = np.random.default_rng(seed)
    true = generator.permutation(np.concatenate([np.arange(num), generator.integers(0, num, size=num_rows - num)]))
    probabilities = simplex(generator, num_rows, num)
    scores: Any = probabilities[:, 1] if num == 2 else probabilities
    theirs = sk.roc_auc_score(true, scores, multi_class="ovr", average="macro")
    assert value(classes(num), "roc_auc", rows_of(label=true, probabilities=probabilities)) == pytest.approx(theirs)


@given(seed=SEEDS, num_rows=st.integers(2, 30))
def test_roc_auc_of_weighted_rows_is_scikit_learns(seed: int, num_rows: int) -> None:
    generator = np.random.default_rng(seed)
    true = generator.permutation(np.concatenate([[0, 1], generator.integers(0, 2, size=num_rows - 2)]))
    probabilities = simplex(generator, num_rows, 2)
    weights = generator.integers(0, 4, size=(5, num_rows)).astype(float)
    measure = make_metric(classes(2), "roc_auc").measure(rows_of(label=true, probabilities=probabilities))
    ours = measure(np.arange(num_rows), np.arange(num_rows), num_rows)(weights)
    for one, of_rows in zip(ours, weights, strict=True):
        if of_rows[true == 0].sum() and of_rows[true == 1].sum():
            assert one == pytest.approx(sk.roc_auc_score(true, probabilities[:, 1], sample_weight=of_rows))
        else:
            assert np.isnan(one)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, num_rows=st.integers(2, 20))
def test_roc_auc_of_several_labels_is_scikit_learns(seed: int, num_rows: int) -> None:
    true, _, probabilities = indicators(np.random.default_rng(seed), num_rows)
    true[0], true[1] = ~true[1], true[1]  # each label stands in a row, and is missing from one
    rows = rows_of(labels=lists(true), probabilities=probabilities)
    subject = classes(NUM, multi_label=True)
    assert value(subject, "roc_auc", rows) == pytest.approx(sk.roc_auc_score(true, probabilities, average="macro"))
    mixed = true.any(axis=1) & ~true.all(axis=1)
    if mixed.any():
        theirs = np.mean([sk.roc_auc_score(*pair) for pair in zip(true[mixed], probabilities[mixed], strict=True)])
        assert value(subject, "example_roc_auc", rows) == pytest.approx(theirs)
    if mixed.all():
        theirs = sk.roc_auc_score(true, probabilities, average="samples")
        assert value(subject, "example_roc_auc", rows) == pytest.approx(theirs)


def test_a_roc_without_one_of_the_sides_is_undefined_as_scikit_learn_says() -> None:
    rows = rows_of(label=[1, 1], probabilities=[[0.4, 0.6], [0.5, 0.5]])
    assert np.isnan(value(classes(2), "roc_auc", rows))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        assert np.isnan(sk.roc_auc_score([1, 1], [0.6, 0.5]))


def expected_error(right: np.ndarray, confidence: np.ndarray) -> float:
    """From scikit-learn's calibration curve; how many are in each of its bins that has any, from a plain loop."""
    accuracy, mean = calibration_curve(right, confidence, n_bins=15, strategy="uniform")
    bins = [
        sum((number / 15 < one <= (number + 1) / 15) or (number == 0 and one == 0) for one in confidence)
        for number in range(15)
    ]
    counts = np.array([count for count in bins if count])
    return float((counts * np.abs(accuracy - mean)).sum() / counts.sum())


@given(seed=SEEDS, num_rows=st.integers(1, 60))
def test_the_calibration_error_is_that_of_scikit_learns_curve(seed: int, num_rows: int) -> None:
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(3), size=num_rows)
    true = generator.integers(0, 3, size=num_rows)
    ours = value(classes(3), "calibration_error", rows_of(label=true, probabilities=probabilities))
    theirs = expected_error(probabilities.argmax(axis=1) == true, probabilities.max(axis=1))
    assert ours == pytest.approx(theirs, abs=1e-12)

    member = generator.random((num_rows, NUM)) < 0.4
    scores = generator.random((num_rows, NUM))
    rows = rows_of(labels=lists(member), probabilities=scores)
    ours = value(classes(NUM, multi_label=True), "calibration_error", rows)
    assert ours == pytest.approx(expected_error(member.ravel(), scores.ravel()), abs=1e-12)


def test_sums_of_parts_are_the_sums_of_the_whole() -> None:
    generator = np.random.default_rng(0)
    rows = rows_of(label=generator.integers(0, NUM, 9000), prediction=generator.integers(0, NUM, 9000))
    metric = make_metric(classes(NUM), "macro_f1")
    assert isinstance(metric, Additive)
    parts = metric.sums(rows.slice(0, 5000)) + metric.sums(rows.slice(5000)) + metric.sums(rows.slice(9000))
    assert np.array_equal(parts, metric.sums(rows))
    assert float(metric.value(parts)) == value(classes(NUM), "macro_f1", rows)


@pytest.mark.parametrize(
    "columns, said",
    [
        ({"label": [0, 4], "prediction": [0, 0]}, r"row '1': label 4 is no index into the 4 classes"),
        ({"label": [0, -1], "prediction": [0, 0]}, r"row '1': label -1 is no index"),
        ({"label": [0, 0], "prediction": [9, 0]}, r"row '0': prediction 9 is no index"),
    ],
)
def test_a_class_that_is_none_of_the_set_is_named(columns: dict[str, list[int]], said: str) -> None:
    with pytest.raises(CorpusError, match=said):
        value(classes(NUM), "accuracy", rows_of(**columns))


def test_probabilities_of_other_classes_are_refused() -> None:
    with pytest.raises(CorpusError, match="`probabilities` has 4 values in 2 rows: there are 4 classes"):
        value(classes(NUM), "roc_auc", rows_of(label=[0, 1], probabilities=[[0.5, 0.5], [0.1, 0.9]]))
