"""What a report can draw of predictions: which classes are taken for which, and how sure the model is."""

from typing import TYPE_CHECKING, Any

import numpy as np

from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.metrics.classes import Classes
from llmcore.evaluation.metrics.probabilities import NUM_BINS, calibration_statistics
from llmcore.evaluation.metrics.squad import best_threshold
from llmcore.evaluation.metrics.squad_rules import AnswerScore

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["figures_json"]


def figures_json(subject: Subject, predictions: "pa.Table") -> dict[str, Any]:
    """Plain JSON of what there is to draw: of classification, and of answers that may be none.

    `confusion` (of one label a row): triples of the true class, the predicted one (-1: none) and the number of rows,
    where there are any. `calibration`: of each bin of `metrics.probabilities.calibration_error` that has rows, how
    many, their mean confidence, and the share that is right. `no_answer_threshold`: the `no_answer_score` above which
    an empty answer scores best, by exact match and by F1; null where it is best for all rows.
    """
    if "no_answer_score" in predictions.column_names:
        return {"no_answer_threshold": {part: best_threshold(predictions, part) for part in AnswerScore._fields}}
    if not subject.label_names:
        return {}
    figures: dict[str, Any] = {} if subject.multi_label else {"confusion": _confusion(predictions)}
    if "probabilities" in predictions.column_names:
        figures["calibration"] = _calibration(subject, predictions)
    return figures


def _confusion(predictions: "pa.Table") -> list[list[int]]:
    pairs = np.stack([predictions[name].to_numpy() for name in ("label", "prediction")], axis=1)
    cells, counts = np.unique(pairs, axis=0, return_counts=True)
    return [[int(true), int(predicted), int(count)] for (true, predicted), count in zip(cells, counts, strict=True)]


def _calibration(subject: Subject, predictions: "pa.Table") -> list[dict[str, float]]:
    statistics = calibration_statistics(Classes(subject.label_names, subject.multi_label), predictions)
    bins = statistics.sum(axis=0).reshape(3, NUM_BINS).T.tolist()
    return [
        {"num": int(num), "confidence": confidence / num, "right": right / num}
        for num, right, confidence in bins
        if num
    ]
