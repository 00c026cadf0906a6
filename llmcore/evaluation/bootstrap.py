"""95 % intervals by resampling groups: rows of one module resemble each other, so modules are what is drawn.

The percentile bootstrap of Efron and Tibshirani (1993, chapter 13) over whole clusters (Field and Welsh, 2007;
Cameron, Gelbach and Miller, 2008, "pairs cluster bootstrap"): draw as many groups as there are, with replacement,
and take the metric of all their rows together. Two models are compared on the same draws, which cancels what makes
a draw hard for both.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from llmcore.config.judging import Resampling
from llmcore.errors import CorpusError
from llmcore.evaluation.metrics.base import Floats, Ints, Measure, Metric, Resampled

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Interval",
    "Measured",
    "Resampling",
    "difference_intervals",
    "distinguishable_from_first",
    "metric_draws",
]

_Name = TypeVar("_Name", bound=Hashable)

_LEVEL = 0.95
_CHUNK_DRAWS = 4_000_000
"""Counts in memory at once (8 bytes each), of groups or rows; how resamples are cut into chunks changes no number."""


@dataclass(frozen=True)
class Interval:
    """A value, and the ends of its 95 % interval.

    Attributes:
        num_undefined: Resamples in which the metric is undefined (a class without a row, say); they are left out.
    """

    value: float
    low: float
    high: float
    num_undefined: int = 0

    @property
    def excludes_zero(self) -> bool:
        """Whether zero is outside: for a difference, whether the two can be told apart."""
        return self.low > 0 or self.high < 0

    def to_json(self) -> dict[str, float]:
        """Plain JSON: value, low, high, and the undefined resamples where there are any."""
        plain: dict[str, float] = {"value": self.value, "low": self.low, "high": self.high}
        return plain | ({"num_undefined": self.num_undefined} if self.num_undefined else {})


@dataclass(frozen=True)
class Measured:
    """Predictions of one model, each row measured once by each metric.

    Attributes:
        ids: The rows.
        groups: The group of each, numbered in the order of their names, [rows].
        measures: By the metric's name.
        absent: Of metrics that read what these predictions do not have, which columns those are.
    """

    ids: list[str]
    groups: Ints
    measures: Mapping[str, Measure]
    absent: Mapping[str, list[str]]

    @classmethod
    def of(cls, metrics: Sequence[Metric], rows: "pa.Table") -> "Measured":
        """Measure predictions.

        Args:
            metrics: By which.
            rows: Predictions: `id`, `group`, and what the metrics read.
        """
        lacking = {one.name: [name for name in one.columns if name not in rows.column_names] for one in metrics}
        measures = {metric.name: metric.measure(rows) for metric in metrics if not lacking[metric.name]}
        _, groups = np.unique(np.asarray(rows["group"].to_pylist(), dtype=str), return_inverse=True)
        return cls(rows["id"].to_pylist(), groups, measures, {name: names for name, names in lacking.items() if names})

    @classmethod
    def mean(cls, models: Sequence["Measured"]) -> "Measured":
        """Several models as one, each of whose metrics is the mean of theirs: its draws are of the rows, not of models.

        Raises:
            ValueError: They are not predictions for the same rows.
        """
        first = models[0]
        for other in models[1:]:
            _check_alike(first, other)
        names = [name for name in first.measures if all(name in model.measures for model in models)]
        measures = {name: _mean_of([model.measures[name] for model in models]) for name in names}
        return cls(first.ids, first.groups, measures, first.absent)

    @property
    def num_groups(self) -> int:
        """Groups that its rows are of."""
        return int(self.groups.max(initial=-1)) + 1

    def values(self, index: Ints | None = None) -> dict[str, float]:
        """Each metric of the rows of `index`, or of all; NaN where it is undefined."""
        whole = np.ones((1, self.num_groups))
        return {name: float(of(whole)[0]) for name, of in self.resampled(index).items()}

    def intervals(self, resampling: Resampling) -> dict[str, Interval]:
        """Each metric that is defined, with its interval.

        Raises:
            CorpusError: There are fewer than two groups.
        """
        return _intervals(self.resampled(), self.num_groups, len(self.ids), resampling)

    def part_intervals(self, parts: Mapping[str, Ints], resampling: Resampling) -> dict[str, dict[str, Interval]]:
        """The same of parts of the rows, all on the draws of the groups of all rows.

        Args:
            parts: Indices of rows, by the part's name.
            resampling: The draws; one that has no row of a part is left out, and counted, as an undefined one.

        Raises:
            CorpusError: There are fewer than two groups.
        """
        functions = {(part, name): of for part, index in parts.items() for name, of in self.resampled(index).items()}
        found = _intervals(functions, self.num_groups, len(self.ids), resampling)
        return {part: {name: one for (of, name), one in found.items() if of == part} for part in parts}

    def resampled(self, index: Ints | None = None) -> dict[str, Resampled]:
        """Each metric of the rows of `index`, or of all, by how often each group is drawn."""
        index = np.arange(len(self.ids)) if index is None else index
        present, groups = np.unique(self.groups[index], return_inverse=True)

        def of_all_groups(of: Resampled) -> Resampled:
            return of if len(present) == self.num_groups else lambda counts: of(counts[..., present])

        return {name: of_all_groups(measure(index, groups, len(present))) for name, measure in self.measures.items()}


def difference_intervals(first: Measured, second: Measured, resampling: Resampling) -> dict[str, Interval]:
    """Each metric of the first model minus that of the second, both resampled alike (the paired bootstrap).

    Raises:
        ValueError: They are not predictions for the same rows.
        CorpusError: There are fewer than two groups.
    """
    _check_alike(first, second)
    functions, others = first.resampled(), second.resampled()

    def less(one: Resampled, other: Resampled) -> Resampled:
        return lambda counts: one(counts) - other(counts)

    both = {name: less(functions[name], others[name]) for name in functions if name in others}
    return _intervals(both, first.num_groups, len(first.ids), resampling)


def distinguishable_from_first(models: Sequence[Measured], metric: str, resampling: Resampling) -> list[bool]:
    """Whether each further model can be told from the first, which was chosen among them as the best of these rows.

    The best of many is the best in part by luck, so each difference is held against what the largest of all differences
    between two of them comes to by chance: Tukey's studentized range, its distribution taken from the bootstrap, all on
    the same draws (Westfall and Young, 1993, chapter 2; Hsu, 1996, chapter 5). Of two models it is the paired
    bootstrap.

    Args:
        models: Predictions for the same rows; the metric is defined for all of them.
        metric: Its name.
        resampling: The draws.

    Raises:
        ValueError: They are not predictions for the same rows.
        CorpusError: There are fewer than two groups.
    """
    values = np.array([model.values()[metric] for model in models])
    # NaN where the metric is undefined for one of them: such a draw says nothing.
    ranges = np.ptp(metric_draws(models, metric, resampling) - values[:, None], axis=0)
    ranges = ranges[~np.isnan(ranges)]
    if not len(ranges):
        return [False] * (len(models) - 1)  # no draw defines the metric for all of them
    by_chance = np.quantile(ranges, _LEVEL)
    return [bool(abs(values[0] - value) > by_chance) for value in values[1:]]


def metric_draws(models: Sequence[Measured], metric: str, resampling: Resampling) -> Floats:
    """A metric of each model in each draw of the groups, the same draws for all: [models, resamples]; NaN: undefined.

    Raises:
        ValueError: They are not predictions for the same rows.
        CorpusError: There are fewer than two groups.
    """
    first = models[0]
    for other in models[1:]:
        _check_alike(first, other)
    functions = [model.resampled()[metric] for model in models]
    draws = _draws(first.num_groups, len(first.ids), resampling)
    return np.concatenate([np.stack([of(counts) for of in functions]) for counts in draws], axis=1)


def _mean_of(measures: Sequence[Measure]) -> Measure:
    def of_all(index: Ints, groups: Ints, num_groups: int) -> Resampled:
        functions = [measure(index, groups, num_groups) for measure in measures]
        return lambda counts: np.mean([of(counts) for of in functions], axis=0)

    return of_all


def _check_alike(first: Measured, second: Measured) -> None:
    if first.ids != second.ids or not np.array_equal(first.groups, second.groups):
        raise ValueError(f"the two models' rows differ: {len(first.ids)} and {len(second.ids)}, or their ids or groups")


def _draws(num_groups: int, num_rows: int, resampling: Resampling) -> Iterator[Floats]:
    """How often each group is drawn, which is all that matters: chunks [resamples, groups].

    Raises:
        CorpusError: There are fewer than two groups.
    """
    if num_groups < 2:
        raise CorpusError(f"an interval needs two or more groups to resample, the split has {num_groups}")
    generator = np.random.default_rng(resampling.seed)
    share = np.full(num_groups, 1 / num_groups)
    largest = max(1, _CHUNK_DRAWS // max(num_groups, num_rows))
    for start in range(0, resampling.num_resamples, largest):
        chunk = min(largest, resampling.num_resamples - start)
        yield generator.multinomial(num_groups, share, size=chunk).astype(np.float64)


def _intervals(
    functions: Mapping[_Name, Resampled], num_groups: int, num_rows: int, resampling: Resampling
) -> dict[_Name, Interval]:
    """All metrics on the same draws."""
    values: dict[_Name, list[Floats]] = {name: [] for name in functions}
    for counts in _draws(num_groups, num_rows, resampling):
        for name, of in functions.items():
            values[name].append(of(counts))
    whole = np.ones((1, num_groups))
    found = {name: _interval(float(of(whole)[0]), np.concatenate(values[name])) for name, of in functions.items()}
    return {name: one for name, one in found.items() if one is not None}


def _interval(value: float, values: Floats) -> Interval | None:
    defined = values[~np.isnan(values)]
    if np.isnan(value) or not len(defined):
        return None
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(value, float(low), float(high), len(values) - len(defined))
