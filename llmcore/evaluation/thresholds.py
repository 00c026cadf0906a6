"""A threshold by group: the same share of each group is chosen, by probabilities that mean something else in each.

Hardt, Price and Srebro (2016), "Equality of Opportunity in Supervised Learning", section 3: a predictor is derived from
scores and groups alone. Theirs may toss a coin between two thresholds; here there is one, so that rates are as equal as
the rows allow.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from llmcore.config.fairness import ThresholdSettings
from llmcore.evaluation.metrics.base import Floats
from llmcore.evaluation.metrics.classes import Classes

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["group_thresholds", "with_thresholds"]

_ONE_HALF = 0.5


def group_thresholds(rows: "pa.Table", classes: Classes, settings: ThresholdSettings) -> dict[str, float]:
    """Of each group the probability of the second class from which on it is chosen.

    So many of each group are chosen as would be of all rows at one half; of equal true positive rates, both among rows
    of that class alone. A group without such rows has one half.

    Args:
        rows: Predictions with labels, `probabilities` and the column of groups.
        classes: Two of them, one a row.
        settings: What is to be equal between which groups.
    """
    score = classes.probabilities(rows)[:, 1]
    counted = np.ones(rows.num_rows, bool)
    if settings.equal == "true_positive_rate":
        counted = classes.true(rows)[:, 1]
    groups = np.array(rows[settings.by].to_pylist(), dtype=object)
    rate = float((score[counted] >= _ONE_HALF).mean()) if counted.any() else 0.0
    names = sorted({str(group) for group in groups if group is not None})
    return {name: _threshold(score[counted & (groups == name)], rate) for name in names}


def with_thresholds(rows: "pa.Table", thresholds: Mapping[str, float], by: str) -> "pa.Table":
    """Predictions by the threshold of each row's group; one half where it has none."""
    import pyarrow as pa

    score = np.array([probabilities[1] for probabilities in rows["probabilities"].to_pylist()])
    least = np.array([thresholds.get(group, _ONE_HALF) for group in rows[by].to_pylist()])
    place = rows.schema.get_field_index("prediction")
    field = rows.schema.field(place)
    return rows.set_column(place, field, pa.array((score >= least).astype(np.int32), field.type))


def _threshold(scores: Floats, rate: float) -> float:
    """Between the last score that is chosen and the next one."""
    if not len(scores):
        return _ONE_HALF
    ordered = np.concatenate([[np.inf], np.sort(scores)[::-1], [-np.inf]])
    number = round(rate * len(scores))
    above, below = ordered[number], ordered[number + 1]
    if np.isinf(above):
        return float(np.nextafter(below, np.inf))
    return float(above if np.isinf(below) else (above + below) / 2)
