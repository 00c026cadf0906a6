"""What every benchmark gives: rows of ours beside its peer, and how they are taken in turn."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

__all__ = ["Measured", "Row", "in_turn", "median_of"]

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One figure of ours, beside a peer's where it has one.

    Attributes:
        name: what is measured.
        value: ours.
        unit: of both values.
        peer: what ours is held against; None where it stands alone.
        peer_value: the peer's.
    """

    name: str
    value: float
    unit: str
    peer: str | None = None
    peer_value: float | None = None

    @property
    def ratio(self) -> float | None:
        """Ours divided by the peer's; None without a peer, or where the peer's is zero."""
        return self.value / self.peer_value if self.peer_value else None

    def to_json(self) -> dict[str, Any]:
        """Name, value, unit, peer, peer_value and ratio."""
        return {**asdict(self), "ratio": self.ratio}


@dataclass
class Measured:
    """A benchmark's rows, and what must be known to read them (sizes, precision, repetitions)."""

    rows: list[Row]
    settings: dict[str, Any] = field(default_factory=dict)


def in_turn(contenders: Mapping[str, Callable[[int], T]], num_repetitions: int) -> dict[str, list[T]]:
    """Results of each contender, called with the number of the repetition: A B A B …, so that a change of the
    machine's load meets all of them.
    """
    results: dict[str, list[T]] = {name: [] for name in contenders}
    for repetition in range(num_repetitions):
        for name, run in contenders.items():
            results[name].append(run(repetition))
    return results


def median_of(results: list[T], figure: Callable[[T], float]) -> float:
    """Median of one figure of the repetitions' results."""
    return statistics.median(figure(result) for result in results)
