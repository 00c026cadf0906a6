"""95 % intervals of figures that are no plain shares, by resampling what they were measured on."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from llmcore.config.judging import Resampling

__all__ = ["Resampling", "Summed", "interval_of_difference", "interval_of_sums", "interval_of_two"]

Floats = npt.NDArray[np.float64]

_BATCH = 100
"""Resamples in memory at once."""


class Summed(NamedTuple):
    """A figure that is made of sums, and what is drawn when its interval is.

    Attributes:
        units: [units, counts]: what each unit adds to each sum.
        figure: From sums [..., counts] to figures [...]; none of them may be undefined.
        bounds: Between which the figure is in any case.
        num: Of how many rows it is.
    """

    units: Floats
    figure: Callable[[Floats], Floats]
    bounds: tuple[float, float]
    num: int

    @property
    def value(self) -> float:
        """Of all units."""
        return float(self.figure(self.units.sum(axis=0)))

    def interval(self, resampling: Resampling) -> tuple[float, float]:
        """Of 95 %."""
        return interval_of_sums(self.units, self.figure, resampling, bounds=self.bounds)


def interval_of_difference(first: Summed, second: Summed, resampling: Resampling) -> tuple[float, float]:
    """The percentile interval of one model's figure less another's, both of the same units, which are drawn for both.

    So what makes a unit hard for both is in neither end (Efron and Tibshirani 1993, chapter 8, of paired samples).
    """
    (low, high), counts = first.bounds, first.units.shape[1]

    def difference(sums: Floats) -> Floats:
        return np.asarray(first.figure(sums[..., :counts]) - second.figure(sums[..., counts:]))

    units = np.concatenate([first.units, second.units], axis=1)
    return interval_of_sums(units, difference, resampling, bounds=(low - high, high - low))


def interval_of_sums(
    units: Floats, figure: Callable[[Floats], Floats], resampling: Resampling, *, bounds: tuple[float, float]
) -> tuple[float, float]:
    """The percentile interval of a figure of sums, when whole units are drawn with replacement.

    A unit is what is drawn by itself: a target group of StereoSet, a template of BBQ, whose questions resemble each
    other (Efron and Tibshirani 1993, chapter 13; Field and Welsh 2007 for whole clusters).

    Args:
        units: [units, counts]: what each adds to each sum.
        figure: From sums [..., counts] to figures [...]; none of them may be undefined.
        resampling: How often, and by which seed.
        bounds: Between which the figure is in any case: the interval where there is one unit, whose spread nobody sees.
    """
    if len(units) < 2:
        return bounds

    def drawn(places: npt.NDArray[np.int64], axis: int) -> Floats:
        return figure(units[places].sum(axis=axis - 1))

    return _ends((np.arange(len(units)),), drawn, resampling)


def interval_of_two(
    first: npt.NDArray[Any], second: npt.NDArray[Any], figure: Callable[..., Floats], resampling: Resampling
) -> tuple[float, float]:
    """The percentile interval of a figure of two samples [n] and [m], each drawn by itself.

    Args:
        first: Two values or more.
        second: The same.
        figure: From samples [..., n] and [..., m], of values or of their places, to figures [...].
        resampling: How often, and by which seed.
    """
    return _ends((first, second), lambda one, other, axis: figure(one, other), resampling)


def _ends(
    samples: Sequence[npt.NDArray[np.generic]], statistic: Callable[..., Floats], how: Resampling
) -> tuple[float, float]:
    from scipy.stats import bootstrap

    found = bootstrap(
        samples,
        statistic,
        n_resamples=how.num_resamples,
        batch=_BATCH,
        vectorized=True,
        paired=False,
        method="percentile",
        rng=np.random.default_rng(how.seed),
    ).confidence_interval
    return float(found.low), float(found.high)
