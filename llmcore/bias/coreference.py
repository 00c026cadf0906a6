"""WinoBias and Winogender: whether a pronoun is understood as well where it goes against what is usual."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from llmcore.bias.figures import share

__all__ = ["Gap", "accuracy_gap"]


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
    first, second = share(sum(pro), len(pro)), share(sum(anti), len(anti))
    gap = first.value - second.value
    low = gap - sqrt((first.value - first.low) ** 2 + (second.high - second.value) ** 2)
    high = gap + sqrt((first.high - first.value) ** 2 + (second.value - second.low) ** 2)
    return Gap(first.value, second.value, gap, low, high, len(pro), len(anti))
