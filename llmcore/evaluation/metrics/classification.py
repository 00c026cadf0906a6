"""Accuracy, F1 and Matthews' correlation from counts by class: the numbers of scikit-learn."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from llmcore.evaluation.metrics.base import Additive, Floats, ratio, row_mean
from llmcore.evaluation.metrics.classes import Classes

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["accuracy", "f1_by_class", "macro_f1", "matthews", "micro_f1"]


def accuracy(classes: Classes) -> Additive:
    """The share of rows whose classes are all right: of several labels, subset accuracy (`accuracy_score`)."""

    def scores(rows: "pa.Table") -> Floats:
        return np.asarray((classes.true(rows) == classes.predicted(rows)).all(axis=1), dtype=np.float64)

    return row_mean("accuracy", (classes.label, "prediction"), scores)


def macro_f1(classes: Classes) -> Additive:
    """The mean of the classes' F1 (`f1_score(average="macro")`).

    As in scikit-learn, of one label the mean is over the classes that stand in the labels or in the predictions; of
    several it is over all, those that stand nowhere counting as 0.
    """

    def value(sums: Floats) -> Floats:
        right, true, predicted = _by_class(sums)
        present = true + predicted > 0
        counted = np.ones_like(present) if classes.multi_label else present
        return ratio(_f1(right, true, predicted).sum(axis=-1), counted.sum(axis=-1))

    return _from_counts("macro_f1", classes, value)


def micro_f1(classes: Classes) -> Additive:
    """F1 of all decisions of all classes together (`f1_score(average="micro")`)."""

    def value(sums: Floats) -> Floats:
        return _f1(*(of_classes.sum(axis=-1) for of_classes in _by_class(sums)))

    return _from_counts("micro_f1", classes, value)


def f1_by_class(classes: Classes) -> list[Additive]:
    """The F1 of each class, `f1[<name>]` (`f1_score(average=None)`); 0 where it stands nowhere."""

    def of(index: int) -> Additive:
        def value(sums: Floats) -> Floats:
            return _f1(*(of_classes[..., index] for of_classes in _by_class(sums)))

        return _from_counts(f"f1[{classes.names[index]}]", classes, value)

    return [of(index) for index in range(len(classes.names))]


def matthews(classes: Classes) -> Additive:
    """Matthews' correlation for any number of classes (Gorodkin, 2004, as `matthews_corrcoef`); 0 where undefined."""

    def value(sums: Floats) -> Floats:
        right, true, predicted = _by_class(sums)
        rows = true.sum(axis=-1)
        none = rows - predicted.sum(axis=-1)  # what was given none of the classes is a class of its own
        covariance = right.sum(axis=-1) * rows - (true * predicted).sum(axis=-1)
        of_true = rows**2 - (true**2).sum(axis=-1)
        of_predicted = rows**2 - (predicted**2).sum(axis=-1) - none**2
        scale = np.sqrt(of_true * of_predicted)
        return np.where(scale > 0, covariance / np.where(scale > 0, scale, 1), 0.0)

    return _from_counts("matthews", classes, value)


def _from_counts(name: str, classes: Classes, value: Callable[[Floats], Floats]) -> Additive:
    def statistics(rows: "pa.Table") -> Floats:
        true, predicted = classes.true(rows), classes.predicted(rows)
        return np.concatenate([true & predicted, true, predicted], axis=1).astype(np.float64)

    return Additive(name, (classes.label, "prediction"), statistics, value)


def _by_class(sums: Floats) -> tuple[Floats, Floats, Floats]:
    """Rows of each class that are right, are truly of it, are predicted as it: each [..., classes]."""
    right, true, predicted = np.split(sums, 3, axis=-1)
    return right, true, predicted


def _f1(right: Floats, true: Floats, predicted: Floats) -> Floats:
    either = true + predicted
    return np.divide(2.0 * right, either, out=np.zeros(np.shape(either)), where=either > 0)
