"""A number of a measure with its interval, as every measure gives it."""

from dataclasses import dataclass
from typing import Any

__all__ = ["Figure", "Figures", "share"]

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        value: What was measured.
        low: Of its 95 % interval.
        high: The same.
        num: Of how many pairs, sentences, questions or targets.
        fair: Its value for a model that prefers no group; None where the figure says how able a model is.
        p_value: Of a test whether chance alone gives as much; None where there is none.
    """

    value: float
    low: float
    high: float
    num: int
    fair: float | None = None
    p_value: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `p_value` where there is one."""
        plain: dict[str, Any] = {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "num": self.num,
            "fair": self.fair,
        }
        return plain | ({} if self.p_value is None else {"p_value": self.p_value})


Figures = dict[str, Figure]
"""By name."""


def share(of: int, number: int, fair: float | None = None) -> Figure:
    """A share of some trials, one or more, with Wilson's interval."""
    from scipy.stats import binomtest

    interval = binomtest(of, number).proportion_ci(_CONFIDENCE, method="wilson")
    return Figure(of / number, float(interval.low), float(interval.high), number, fair)
