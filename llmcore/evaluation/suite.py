"""What a model is judged on, and how: two results can be compared when their suites are the same."""

from dataclasses import dataclass
from typing import Any

from llmcore.storage import content_hash

__all__ = ["Suite"]

_VERSION = 1
"""Raised when the same predictions would give other numbers."""


@dataclass(frozen=True)
class Suite:
    """A labelled set, metrics, and how intervals are computed.

    Attributes:
        set_hash: `EvaluationSet.hash`.
        metrics: Names in `metrics.METRICS`.
        choose_by: The metric, on validation, that chooses a model.
        num_resamples: Bootstrap resamples of an interval.
        seed: Seed of the resamples.
    """

    set_hash: str
    metrics: tuple[str, ...]
    choose_by: str
    num_resamples: int
    seed: int

    @property
    def all_metrics(self) -> tuple[str, ...]:
        """The metrics, with the one that chooses."""
        return tuple(dict.fromkeys((*self.metrics, self.choose_by)))

    @property
    def hash(self) -> str:
        """SHA-256 of all of it; part of the name of every stored result."""
        return content_hash("suite", self._content())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, its hash included."""
        return {**self._content(), "hash": self.hash}

    def _content(self) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "set": self.set_hash,
            "metrics": list(self.metrics),
            "choose_by": self.choose_by,
            "num_resamples": self.num_resamples,
            "seed": self.seed,
        }
