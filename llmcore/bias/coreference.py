"""WinoBias and Winogender: whether a pronoun is understood as well where it goes against what is usual."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from scipy.stats import binomtest

__all__ = ["Gap", "accuracy_gap"]

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Gap:
    """The difference of two accuracies.

    Attributes:
        pro: Accuracy where the pronoun is of the gender that most people of the occupation have.
        anti: Where it is of the other.
        gap: The first less the second; 0 is fair.
        low: Of its 95 % interval.
        high: The same.
        num_pro: Sentences.
        num_anti: Sentences.
    """

    pro: float
    anti: float
    gap: float
    low: float
    high: float
    num_pro: int
    num_anti: int

    @property
    def is_biased(self) -> bool:
        """Whether 0 is outside of the interval."""
        return not self.low <= 0 <= self.high


def accuracy_gap(pro: Sequence[bool], anti: Sequence[bool]) -> Gap:
    """The gap between sentences that go with the stereotype and those against it, by whether each was understood.

    Its interval is Newcombe's for two independent shares (1998, Statistics in Medicine 17, method 10).

    Source: Zhao et al. 2018 (WinoBias, NAACL), section 2; Rudinger et al. 2018 (Winogender, NAACL).
    """
    (first, first_low, first_high), (second, second_low, second_high) = _share(pro), _share(anti)
    gap = first - second
    low = gap - sqrt((first - first_low) ** 2 + (second_high - second) ** 2)
    high = gap + sqrt((first_high - first) ** 2 + (second - second_low) ** 2)
    return Gap(first, second, gap, low, high, len(pro), len(anti))


def _share(right: Sequence[bool]) -> tuple[float, float, float]:
    """A share, with Wilson's interval."""
    interval = binomtest(sum(right), len(right)).proportion_ci(_CONFIDENCE, method="wilson")
    return sum(right) / len(right), float(interval.low), float(interval.high)
