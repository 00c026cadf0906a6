"""At what cost two ways reach the same quality, and when what one of them has cost beforehand is paid for.

A way is a curve of measured budgets, each with a quality. What it reaches is read from its frontier, the budgets that
are better than all smaller ones, and between two of them on a straight line over the budget's logarithm: what more of a
budget brings falls with the budget, by power laws where it was measured (Kaplan et al. 2020, arXiv 2001.08361). Nothing
is read before the smallest budget or behind the largest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, exp, floor, inf, isinf, log
from typing import Any, Literal, NamedTuple

__all__ = [
    "Amount",
    "BreakEven",
    "BreakEvenBetween",
    "Budgeted",
    "EqualQuality",
    "break_even",
    "break_even_between",
    "equal_qualities",
    "frontier",
    "reached_at",
]

_LEVEL = 0.95


class Budgeted(NamedTuple):
    """A measured budget, larger than 0, and the quality that came of it; the higher one is the better one."""

    budget: float
    quality: float


class Amount(NamedTuple):
    """An amount, or a bound of one.

    Attributes:
        value: The amount.
        bound: What is known: that it is `exact`ly this, `at_most` or `at_least` this.
    """

    value: float
    bound: Literal["exact", "at_most", "at_least"] = "exact"


class BreakEven(NamedTuple):
    """When a cost beforehand is paid for.

    Attributes:
        verdict: `after` so many tasks; `never`, since no task saves anything; `open`, where the measured budgets do not
            say whether one does.
        tasks: How many, and whether they are a bound.
    """

    verdict: Literal["after", "never", "open"]
    tasks: Amount | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"verdict": self.verdict, "tasks": self.tasks and self.tasks._asdict()}


class BreakEvenBetween(NamedTuple):
    """What many draws of the rows say of when a cost beforehand is paid for.

    Attributes:
        low: Tasks; in 97.5 % of the draws it is not paid for with fewer.
        high: Tasks; in 97.5 % of the draws it is paid for by then. Infinite where there is no such number.
        never: Share of the draws in which no task saves anything.
        open: Share of those in which the measured budgets do not say.
    """

    low: float
    high: float
    never: float
    open: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; None in place of what is infinite."""
        return {name: None if isinf(value) else value for name, value in self._asdict().items()}


@dataclass(frozen=True)
class EqualQuality:
    """The budgets with which two ways reach one quality.

    Attributes:
        quality: The quality.
        first: Of the first way; `at_most` where its smallest measured budget reaches more.
        second: Of the second way.
    """

    quality: float
    first: Amount
    second: Amount

    @property
    def saving(self) -> Amount | None:
        """By how much the first way's budget is smaller; None where both are bounds, so that nobody knows."""
        value = self.second.value - self.first.value
        if self.first.bound == self.second.bound == "exact":
            return Amount(value)
        if self.second.bound == "exact":
            return Amount(value, "at_least")
        return Amount(value, "at_most") if self.first.bound == "exact" else None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        saving = self.saving
        return {
            "quality": self.quality,
            "first": self.first._asdict(),
            "second": self.second._asdict(),
            "saving": saving and saving._asdict(),
        }


def frontier(curve: Sequence[Budgeted]) -> list[Budgeted]:
    """The budgets that are better than every smaller one, the smallest first."""
    found: list[Budgeted] = []
    for one in sorted(curve, key=lambda one: (one.budget, -one.quality)):
        if not found or one.quality > found[-1].quality:
            found.append(one)
    return found


def reached_at(curve: Sequence[Budgeted], quality: float) -> Amount | None:
    """The least budget with which a quality is reached; None where no measured one does."""
    best = frontier(curve)
    if not best or best[-1].quality < quality:
        return None
    if best[0].quality >= quality:
        return Amount(best[0].budget, "exact" if best[0].quality == quality else "at_most")
    below, above = next(pair for pair in pairwise(best) if pair[1].quality >= quality)
    share = (quality - below.quality) / (above.quality - below.quality)
    return Amount(exp(log(below.budget) + share * log(above.budget / below.budget)) if share < 1 else above.budget)


def equal_qualities(first: Sequence[Budgeted], second: Sequence[Budgeted]) -> list[EqualQuality]:
    """The same quality by both ways, from the lowest to the highest that both reach.

    The qualities are those of measured budgets, so that one of the two sides is measured and not read between points.
    """
    qualities = sorted({one.quality for curve in (first, second) for one in frontier(curve)})
    found = [(quality, reached_at(first, quality), reached_at(second, quality)) for quality in qualities]
    return [EqualQuality(quality, one, other) for quality, one, other in found if one and other]


def break_even(cost: float, saving: Amount | None) -> BreakEven:
    """After how many tasks a cost beforehand is paid for, where each saves so much."""
    if saving is None:
        return BreakEven("open")
    if saving.value <= 0:
        return BreakEven("open" if saving.bound == "at_least" else "never")
    tasks = max(1.0, float(ceil(cost / saving.value)))
    turned: dict[str, Any] = {"exact": "exact", "at_least": "at_most", "at_most": "at_least"}
    return BreakEven("after", Amount(tasks, turned[saving.bound]))


def break_even_between(draws: Sequence[BreakEven]) -> BreakEvenBetween:
    """The percentile interval of the tasks, one draw or more (Efron and Tibshirani 1993, chapter 13).

    A draw that says no more than a bound holds all that is within it, one that is open all numbers of tasks, and one
    in which it is never paid for none that is finite: so the interval claims no more than the draws do.
    """
    ends = [_tasks_between(one) for one in draws]
    tail = (1 - _LEVEL) / 2
    last = len(draws) - 1
    lows, highs = sorted(low for low, _ in ends), sorted(high for _, high in ends)
    return BreakEvenBetween(
        lows[floor(tail * last)],
        highs[ceil((1 - tail) * last)],
        sum(one.verdict == "never" for one in draws) / len(draws),
        sum(one.verdict == "open" for one in draws) / len(draws),
    )


def _tasks_between(found: BreakEven) -> tuple[float, float]:
    if found.tasks is None:
        return (inf, inf) if found.verdict == "never" else (1.0, inf)
    tasks, bound = found.tasks
    return (1.0 if bound == "at_most" else tasks), (inf if bound == "at_least" else tasks)
