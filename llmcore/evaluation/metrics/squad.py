"""SQuAD exact match and F1 over rows: of all, of those with an answer, without one, and at the best threshold."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from llmcore.errors import CorpusError
from llmcore.evaluation.metrics.base import Additive, Floats, Metric, Weighted, ratio, row_mean
from llmcore.evaluation.metrics.squad_rules import AnswerScore, score_squad1, score_squad2

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SQUAD_METRICS", "best_threshold"]

_COLUMNS = ("answers", "prediction")


def _answers(rows: "pa.Table") -> list[list[str]]:
    return [[answer["text"] for answer in answers] for answers in rows["answers"].to_pylist()]


def _scores_1(rows: "pa.Table", part: str) -> Floats:
    scores = []
    for name, prediction, answers in zip(
        rows["id"].to_pylist(), rows["prediction"].to_pylist(), _answers(rows), strict=True
    ):
        if not answers:
            raise CorpusError(
                f"row {name!r} has no answer, for which SQuAD 1.1 has no rule: judge by squad2_exact_match, squad2_f1"
            )
        scores.append(getattr(score_squad1(prediction, answers), part))
    return np.array(scores, dtype=np.float64)


def _scores_2(rows: "pa.Table", part: str) -> Floats:
    pairs = zip(rows["prediction"].to_pylist(), _answers(rows), strict=True)
    return np.array([getattr(score_squad2(*pair), part) for pair in pairs], dtype=np.float64)


def _has_answer(rows: "pa.Table") -> "np.ndarray[Any, np.dtype[np.bool_]]":
    return np.array([bool(answers) for answers in rows["answers"].to_pylist()], dtype=bool)


def _only(part: str, *, has_answer: bool) -> Callable[["pa.Table"], Floats]:
    """Scores of 2.0 of the rows with an answer, or of those without one."""
    return lambda rows: np.where(_has_answer(rows) == has_answer, _scores_2(rows, part), np.nan)


def _thresholds(rows: "pa.Table", part: str) -> tuple["np.ndarray[Any, Any]", Floats, Floats]:
    """Rows by how sure the model is that there is no answer, the least first; what keeping each one's answer adds to
    what an empty answer for all of them scores; and that score of each.
    """
    order = np.argsort(rows["no_answer_score"].to_numpy(), kind="stable")
    empty = (~_has_answer(rows)).astype(np.float64)
    says_something = np.array([bool(prediction) for prediction in rows["prediction"].to_pylist()], dtype=bool)
    # As the official script: where there is no answer, a prediction that says something is wrong whatever it says.
    kept = np.where(empty > 0, ~says_something, _scores_2(rows, part))
    return order, (kept - empty)[order], empty[order]


def _at_best_threshold(part: str) -> Callable[["pa.Table"], Callable[[Floats], Floats]]:
    def of_weights(rows: "pa.Table") -> Callable[[Floats], Floats]:
        order, gains, empty = _thresholds(rows, part)

        def value(weights: Floats) -> Floats:
            weights = weights[..., order]
            best = np.maximum(np.cumsum(weights * gains, axis=-1).max(axis=-1, initial=0.0), 0.0)
            return ratio(best + weights @ empty, weights.sum(axis=-1))

        return value

    return of_weights


def best_threshold(rows: "pa.Table", part: str) -> float | None:
    """The `no_answer_score` above which saying that there is no answer gives the best score; ties take the lowest.

    Args:
        rows: Predictions, with `answers`, `prediction` and `no_answer_score`.
        part: `exact_match` or `f1`.

    Returns:
        The threshold; None where it is best to say so always.
    """
    order, gains, _ = _thresholds(rows, part)
    totals = np.cumsum(gains)
    if not len(totals) or totals.max() <= 0:
        return None
    return float(rows["no_answer_score"].to_numpy()[order][int(np.argmax(totals))])


def _plain(name: str, scores: Callable[["pa.Table"], Floats]) -> Additive:
    return row_mean(name, _COLUMNS, scores)


def _made() -> list[Metric]:
    made: list[Metric] = []
    for part in AnswerScore._fields:
        made += [
            _plain(f"squad_{part}", lambda rows, part=part: _scores_1(rows, part)),  # type: ignore[misc]
            _plain(f"squad2_{part}", lambda rows, part=part: _scores_2(rows, part)),  # type: ignore[misc]
            _plain(f"squad2_has_answer_{part}", _only(part, has_answer=True)),
            Weighted(f"squad2_best_{part}", (*_COLUMNS, "no_answer_score"), _at_best_threshold(part)),
        ]
    return [*made, _plain("squad2_no_answer_exact_match", _only("exact_match", has_answer=False))]


SQUAD_METRICS: dict[str, Metric] = {metric.name: metric for metric in _made()}
"""By name. Shares, 0 … 1, where the official scripts print percent."""
