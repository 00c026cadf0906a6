"""What probabilities are worth: areas under ROC curves, and how far confidence is from accuracy."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmcore.evaluation.metrics.base import Additive, Floats, Weighted, ratio, row_mean
from llmcore.evaluation.metrics.classes import Classes

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["NUM_BINS", "calibration_error", "calibration_statistics", "example_roc_auc", "roc_auc"]

NUM_BINS = 15
"""Bins of confidence, as many as in Guo et al."""

_EDGES = np.linspace(0, 1, NUM_BINS + 1)[1:-1]


def roc_auc(classes: Classes) -> Weighted:
    """The area under the ROC curve: of two classes that of the second; of more, or several labels, the mean of each
    class against the rest (`roc_auc_score(multi_class="ovr", average="macro")`). Undefined where a class has no row,
    or all of them.
    """

    def of_weights(rows: "pa.Table") -> Callable[[Floats], Floats]:
        true, probabilities = classes.true(rows), classes.probabilities(rows)
        judged = range(true.shape[1]) if classes.multi_label or true.shape[1] > 2 else [1]
        areas = [_area(true[:, index], probabilities[:, index]) for index in judged]
        return lambda weights: np.mean([area(weights) for area in areas], axis=0)

    return Weighted("roc_auc", (classes.label, "probabilities"), of_weights)


def example_roc_auc(classes: Classes) -> Additive:
    """The mean over rows of the area under the ROC curve of a row's labels (`roc_auc_score(average="samples")`).

    It is how often a label that the row has is ranked above one that it has not. Rows with none or all of the labels
    rank nothing and are left out.
    """

    def scores(rows: "pa.Table") -> Floats:
        pairs = zip(classes.true(rows), classes.probabilities(rows), strict=True)
        return np.array([_area(true, scores)(np.ones(len(true))) for true, scores in pairs], dtype=np.float64)

    return row_mean("example_roc_auc", (classes.label, "probabilities"), scores)


def calibration_error(classes: Classes) -> Additive:
    """The expected calibration error with 15 bins of equal width (Guo et al., 2017; Naeini et al., 2015).

    Rows are put into bins by the probability of their most probable class; of each bin, the distance of the share that
    is right from the mean of that probability; the mean of these, weighted by rows. Of several labels, each pair of a
    row and a label is what is binned, by the label's probability, and "right" is that the row has the label.
    """

    def value(sums: Floats) -> Floats:
        num, right, confidence = np.split(sums, 3, axis=-1)
        return ratio(np.abs(right - confidence).sum(axis=-1), num.sum(axis=-1))

    columns = (classes.label, "probabilities")
    signature = f"bins:{NUM_BINS} of equal width, right-closed|confidence:" + (
        "of each label" if classes.multi_label else "of the most probable class"
    )
    return Additive(
        "calibration_error",
        columns,
        lambda rows: calibration_statistics(classes, rows),
        value,
        higher_is_better=False,
        signature=signature,
    )


def calibration_statistics(classes: Classes, rows: "pa.Table") -> Floats:
    """By bin: how many there are, how many are right, and their confidence, [rows, 3 * bins]."""
    true, probabilities = classes.true(rows), classes.probabilities(rows)
    if not classes.multi_label and len(true):
        top = probabilities.argmax(axis=1)[:, None]
        true, probabilities = np.take_along_axis(true, top, axis=1), np.take_along_axis(probabilities, top, axis=1)
    row, _ = np.indices(true.shape)
    statistics = np.zeros((len(true), 3, NUM_BINS))
    place = np.searchsorted(_EDGES, probabilities)
    for kind, values in enumerate((np.ones(true.shape), true, probabilities)):
        np.add.at(statistics[:, kind], (row, place), values)
    return statistics.reshape(len(true), -1)


def _area(positive: NDArray[np.bool_], scores: Floats) -> Callable[[Floats], Floats]:
    """The chance that a positive row has a higher score than a negative one, ties counting half, of weighted rows."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # of each run of equal scores
    positive = positive[order]

    def area(weights: Floats) -> Floats:
        if not len(starts):
            return np.full(weights.shape[:-1], np.nan)
        weights = weights[..., order]
        up = np.add.reduceat(weights * positive, starts, axis=-1)
        down = np.add.reduceat(weights * ~positive, starts, axis=-1)
        below = np.cumsum(down, axis=-1) - down / 2
        return ratio((up * below).sum(axis=-1), up.sum(axis=-1) * down.sum(axis=-1))

    return area
