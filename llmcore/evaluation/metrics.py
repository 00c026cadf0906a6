"""Metrics by name: of predictions by scikit-learn, and of many confusion matrices at once for the bootstrap."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["METRICS", "Metric", "group_confusions"]


@dataclass(frozen=True)
class Metric:
    """One number, the higher the better.

    Attributes:
        of_predictions: From true classes [rows] and predicted classes [rows]: scikit-learn's number.
        of_confusions: From confusion matrices [..., classes, classes] (true by predicted): the same number of each.
    """

    of_predictions: Callable[[ArrayLike, ArrayLike], float]
    of_confusions: Callable[[NDArray[Any]], NDArray[np.float64]]


def _accuracy_of_predictions(labels: ArrayLike, predictions: ArrayLike) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predictions))


def _accuracy_of_confusions(confusions: NDArray[Any]) -> NDArray[np.float64]:
    right = np.trace(confusions, axis1=-2, axis2=-1)
    return np.asarray(right / confusions.sum(axis=(-2, -1)), dtype=np.float64)


def _macro_f1_of_predictions(labels: ArrayLike, predictions: ArrayLike) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, average="macro", zero_division=0.0))


def _macro_f1_of_confusions(confusions: NDArray[Any]) -> NDArray[np.float64]:
    # As scikit-learn: the mean is over the classes that stand in the labels or in the predictions.
    right = np.diagonal(confusions, axis1=-2, axis2=-1)
    either = confusions.sum(axis=-1) + confusions.sum(axis=-2)
    present = either > 0
    f1 = np.divide(2.0 * right, either, out=np.zeros(either.shape), where=present)
    return np.asarray(f1.sum(axis=-1) / present.sum(axis=-1), dtype=np.float64)


METRICS = {
    "accuracy": Metric(_accuracy_of_predictions, _accuracy_of_confusions),
    "macro_f1": Metric(_macro_f1_of_predictions, _macro_f1_of_confusions),
}


def group_confusions(
    labels: ArrayLike, predictions: ArrayLike, groups: Sequence[str], num_classes: int
) -> NDArray[np.int64]:
    """A confusion matrix for each group, true class by predicted class: [groups, classes, classes].

    Groups come in sorted order, so two models' predictions of the same rows give matrices of the same groups.
    """
    names, index = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    confusions = np.zeros((len(names), num_classes, num_classes), dtype=np.int64)
    np.add.at(confusions, (index, np.asarray(labels), np.asarray(predictions)), 1)
    return confusions
