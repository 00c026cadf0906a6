"""How a model treats groups of people: how far its answers move with them, and how its rates differ between them.

All are 0 where it treats them alike.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from llmcore.config.fairness import COUNTERFACTUAL_GAP, FairnessChecks
from llmcore.errors import ConfigError
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.metrics.base import Additive, Floats, Measure, Metric, ratio, row_mean
from llmcore.evaluation.metrics.classes import Classes

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FLIP", "SHIFT", "GroupGap", "fairness_metrics"]

FLIP, SHIFT = "counterfactual_flip", "counterfactual_shift"
"""Columns of predictions, null where a row names nobody: see `tasks.counterfactual.Moves`."""


def fairness_metrics(subject: Subject, checks: FairnessChecks | None) -> list[Metric]:
    """What is measured besides the quality.

    Raises:
        ConfigError: Groups are to be compared by answers that are no classes.
    """
    if checks is None:
        return []
    metrics: list[Metric] = []
    if checks.counterfactuals is not None:
        metrics += [_mean(COUNTERFACTUAL_GAP, SHIFT), _mean("counterfactual_flips", FLIP)]
    if checks.groups and subject.kind != "text_classification":
        raise ConfigError(
            f"fairness.groups compares classifications, and these are answers of {subject.kind}: leave it out; the "
            "slices have its metrics by group"
        )
    if checks.thresholds is not None and (len(subject.label_names) != 2 or subject.multi_label):
        raise ConfigError(
            f"fairness.thresholds is of two classes, one a row, and there are {len(subject.label_names)}"
            f"{', any number a row' if subject.multi_label else ''}: leave it out"
        )
    classes = Classes(subject.label_names, subject.multi_label)
    return [*metrics, *(GroupGap(name, column, classes) for column in checks.groups for name in _GAPS)]


def _mean(name: str, column: str) -> Additive:
    def scores(rows: "pa.Table") -> Floats:
        return np.asarray(rows[column].to_numpy(zero_copy_only=False), dtype=np.float64)

    return row_mean(name, (column,), scores, higher_is_better=False)


@dataclass(frozen=True)
class _Counts:
    """Of groups and classes, each [..., groups, classes]; rows [..., groups, 1]."""

    true: Floats
    predicted: Floats
    right: Floats
    probable: Floats
    rows: Floats


def _selection_rate(counts: _Counts) -> Floats:
    return ratio(counts.predicted, counts.rows)


def _true_positive_rate(counts: _Counts) -> Floats:
    return ratio(counts.right, counts.true)


def _false_positive_rate(counts: _Counts) -> Floats:
    return ratio(counts.predicted - counts.right, counts.rows - counts.true)


def _calibration(counts: _Counts) -> Floats:
    return ratio(counts.probable - counts.true, counts.rows)


_GAPS: dict[str, Callable[[_Counts], Floats]] = {
    "selection_rate_gap": _selection_rate,
    "true_positive_rate_gap": _true_positive_rate,
    "false_positive_rate_gap": _false_positive_rate,
    "calibration_gap": _calibration,
}


@dataclass(frozen=True)
class GroupGap:
    """The difference of a rate between groups.

    Of two groups and two classes it is the second class's rate of the first group less that of the second, groups in
    the order of their names: its interval has 0 in it where they cannot be told apart. Of more it is the largest
    difference of any two groups in any class, as fairlearn has it (`demographic_parity_difference`, the `difference` of
    its `true_positive_rate` and `false_positive_rate`), which is above 0 by chance as well. Calibration is the mean
    probability of a class, less the share of the rows that have it. A group whose rate these rows do not define, and
    rows of no group, are left out.

    Sources: Hardt, Price and Srebro 2016 (rates); Kleinberg et al. 2016 (calibration within groups).

    Attributes:
        gap: Its name, without the column.
        column: The metadata that tells groups apart.
        classes: Of the labelled set.
    """

    gap: str
    column: str
    classes: Classes
    higher_is_better: bool = False
    signature: str = ""

    @property
    def name(self) -> str:
        """With its column."""
        return f"{self.gap}[{self.column}]"

    @property
    def columns(self) -> tuple[str, ...]:
        """What it reads."""
        needed = (self.classes.label, "prediction", self.column)
        return (*needed, "probabilities") if self.gap == "calibration_gap" else needed

    def measure(self, rows: "pa.Table") -> Measure:
        """See `Metric.measure`: sums by group and class."""
        groups = sorted({value for value in rows[self.column].to_pylist() if value is not None})
        return Additive(
            self.name,
            self.columns,
            lambda part: self._statistics(part, groups),
            lambda sums: self._value(sums.reshape(*sums.shape[:-1], len(groups), -1)) if groups else sums[..., 0],
        ).measure(rows)

    def _statistics(self, rows: "pa.Table", groups: list[str]) -> Floats:
        """Of each row, in the places of its group: its classes four times over, and 1."""
        true, predicted = self.classes.true(rows), self.classes.predicted(rows)
        probable = self.classes.probabilities(rows) if self.gap == "calibration_gap" else np.zeros(true.shape)
        of_row = np.concatenate([true, predicted, true & predicted, probable, np.ones((rows.num_rows, 1))], axis=1)
        if not groups:
            return np.full((rows.num_rows, 1), np.nan)
        member = np.array([[value == group for group in groups] for value in rows[self.column].to_pylist()])
        return np.asarray((member[:, :, None] * of_row[:, None, :]).reshape(rows.num_rows, -1), dtype=np.float64)

    def _value(self, sums: Floats) -> Floats:
        """From [..., groups, 4 classes + 1]."""
        parts = np.split(sums, np.arange(1, 5) * len(self.classes.names), axis=-1)
        rates = _GAPS[self.gap](_Counts(*parts))
        if len(self.classes.names) == 2 and not self.classes.multi_label:
            rates = rates[..., 1:]
            if rates.shape[-2] == 2:
                return np.asarray(rates[..., 0, 0] - rates[..., 1, 0])
        defined = ~np.isnan(rates)
        highest = np.where(defined, rates, -np.inf).max(axis=-2)
        lowest = np.where(defined, rates, np.inf).min(axis=-2)
        of_class = np.where(defined.sum(axis=-2) > 1, highest - lowest, -np.inf)
        gap = of_class.max(axis=-1)
        return np.where(np.isfinite(gap), gap, np.nan)
