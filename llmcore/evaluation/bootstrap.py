"""95 % intervals by resampling groups: rows of one module resemble each other, so modules are what is drawn.

The percentile bootstrap of Efron and Tibshirani (1993, chapter 13) over whole clusters (Field and Welsh, 2007;
Cameron, Gelbach and Miller, 2008, "pairs cluster bootstrap"): draw as many groups as there are, with replacement,
and take the metric of all their rows together. Two models are compared on the same draws, which cancels what makes
a draw hard for both.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from llmcore.errors import CorpusError
from llmcore.evaluation.metrics import METRICS

__all__ = ["Interval", "difference_interval", "metric_interval"]

_LEVEL = 0.95
_CHUNK_DRAWS = 4_000_000
"""Group counts in memory at once (8 bytes each); how resamples are cut into chunks changes no number."""


@dataclass(frozen=True)
class Interval:
    """A value, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero is outside: for a difference, whether the two can be told apart."""
        return self.low > 0 or self.high < 0

    def to_json(self) -> dict[str, float]:
        """Plain JSON: value, low, high."""
        return asdict(self)


def metric_interval(metric: str, confusions: NDArray[np.int64], *, num_resamples: int, seed: int) -> Interval:
    """A metric of one model, from its confusion matrices by group [groups, classes, classes]."""
    of = METRICS[metric].of_confusions
    values = [of(totals) for (totals,) in _resampled((confusions,), num_resamples, seed)]
    return _interval(float(of(confusions.sum(axis=0))), values)


def difference_interval(
    metric: str, first: NDArray[np.int64], second: NDArray[np.int64], *, num_resamples: int, seed: int
) -> Interval:
    """`metric` of the first model minus that of the second, both resampled alike (same groups in the same order)."""
    of = METRICS[metric].of_confusions
    if first.shape != second.shape or not (first.sum(axis=(1, 2)) == second.sum(axis=(1, 2))).all():
        raise ValueError(f"the two models' groups differ: {first.shape} and {second.shape}, or their numbers of rows")
    values = [of(one) - of(other) for one, other in _resampled((first, second), num_resamples, seed)]
    return _interval(float(of(first.sum(axis=0)) - of(second.sum(axis=0))), values)


def _resampled(
    models: tuple[NDArray[np.int64], ...], num_resamples: int, seed: int
) -> Iterator[tuple[NDArray[np.float64], ...]]:
    """Each model's confusion matrices of chunks of resamples [chunk, classes, classes], on the same draws."""
    num_groups = len(models[0])
    if num_groups < 2:
        raise CorpusError(f"an interval needs two or more groups to resample, the split has {num_groups}")
    generator = np.random.default_rng(seed)
    # How often each group is drawn is all that matters, and one matrix product sums what was drawn.
    share = np.full(num_groups, 1 / num_groups)
    flat = [model.reshape(num_groups, -1).astype(np.float64) for model in models]
    largest = max(1, _CHUNK_DRAWS // num_groups)
    for start in range(0, num_resamples, largest):
        chunk = min(largest, num_resamples - start)
        counts = generator.multinomial(num_groups, share, size=chunk).astype(np.float64)
        yield tuple(
            (counts @ model).reshape(chunk, *original.shape[1:]) for model, original in zip(flat, models, strict=True)
        )


def _interval(value: float, values: list[NDArray[np.float64]]) -> Interval:
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(np.concatenate(values), [tail, 1 - tail])
    return Interval(value, float(low), float(high))
