"""What a metric is: one number of any resample of groups of rows, from what is measured on the rows once.

Nearly all metrics are *additive*: each row gives a few statistics, and the metric is a function of their sums. So the
bootstrap is one matrix product. What is not, as the area under a ROC curve, is computed from rows with weights.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Additive", "Floats", "Ints", "Measure", "Metric", "Resampled", "Weighted", "ratio", "row_mean"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Resampled = Callable[[Floats], Floats]
"""From how often each group is drawn, [..., groups], to the metric of all drawn rows, [...]; NaN is undefined."""

Measure = Callable[[Ints, Ints, int], Resampled]
"""Resampling of some of the rows: their indices, the group of each of them, and the number of groups."""

_CHUNK_ROWS = 4096
"""Rows whose statistics are in memory as a dense array at once."""


class Metric(Protocol):
    """One number for the predictions of one model.

    Attributes:
        name: Its name in configurations and records.
        columns: Columns of the table of predictions that it reads.
        higher_is_better: Whether of two models the better one has the higher value.
        signature: What fixes its definition beyond its name (versions, options); empty where there is nothing to say.
    """

    @property
    def name(self) -> str: ...  # noqa: D102  # attributes stand above
    @property
    def columns(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def higher_is_better(self) -> bool: ...  # noqa: D102
    @property
    def signature(self) -> str: ...  # noqa: D102

    def measure(self, rows: "pa.Table") -> Measure:
        """Read the rows once; what comes back gives the metric of any resample of any part of them."""


@dataclass(frozen=True)
class Additive:
    """A metric from sums over rows.

    Attributes:
        statistics: From rows to their statistics, [rows, k].
        value: From sums of statistics, [..., k], to values, [...]; NaN where it is undefined.
    """

    name: str
    columns: tuple[str, ...]
    statistics: Callable[["pa.Table"], Floats]
    value: Callable[[Floats], Floats]
    higher_is_better: bool = True
    signature: str = ""

    def sums(self, rows: "pa.Table") -> Floats:
        """Sums of the statistics of all rows, [k]: those of parts add up, as over the ranks of a run."""
        return np.asarray(sum(self.statistics(chunk).sum(axis=0) for chunk in _chunks(rows)), dtype=np.float64)

    def measure(self, rows: "pa.Table") -> Measure:
        """See `Metric.measure`; memory grows by the statistics that are not zero."""
        from scipy import sparse

        statistics = sparse.vstack([sparse.csr_array(self.statistics(chunk)) for chunk in _chunks(rows)], format="csr")

        def of_groups(index: Ints, group: Ints, num_groups: int) -> Resampled:
            ones = np.ones(len(index))
            by_group = sparse.csr_array((ones, (group, index)), shape=(num_groups, statistics.shape[0])) @ statistics
            return lambda counts: self.value(np.asarray(counts @ by_group))

        return of_groups


@dataclass(frozen=True)
class Weighted:
    """A metric that no sums give.

    Attributes:
        of_weights: From rows to a function of their weights, [..., rows] → [...].
    """

    name: str
    columns: tuple[str, ...]
    of_weights: Callable[["pa.Table"], Callable[[Floats], Floats]]
    higher_is_better: bool = True
    signature: str = ""

    def measure(self, rows: "pa.Table") -> Measure:
        """See `Metric.measure`."""

        def of_groups(index: Ints, group: Ints, num_groups: int) -> Resampled:
            value = self.of_weights(rows.take(index))
            return lambda counts: value(counts[..., group])

        return of_groups


def row_mean(name: str, columns: tuple[str, ...], scores: Callable[["pa.Table"], Floats], **about: Any) -> Additive:
    """The mean of a score of each row; rows whose score is NaN are left out of the mean."""

    def statistics(rows: "pa.Table") -> Floats:
        score = np.asarray(scores(rows), dtype=np.float64)
        counts = ~np.isnan(score)
        return np.stack([np.where(counts, score, 0.0), counts], axis=1)

    return Additive(name, columns, statistics, lambda sums: ratio(sums[..., 0], sums[..., 1]), **about)


def ratio(numerator: Any, denominator: Any) -> Floats:
    """Their quotient; NaN where the denominator is zero."""
    shape = np.broadcast_shapes(np.shape(numerator), np.shape(denominator))
    nothing = np.full(shape, np.nan)
    return np.asarray(np.divide(numerator, denominator, out=nothing, where=np.asarray(denominator) != 0))


def _chunks(rows: "pa.Table") -> Iterator["pa.Table"]:
    for start in range(0, max(rows.num_rows, 1), _CHUNK_ROWS):
        yield rows.slice(start, _CHUNK_ROWS)
