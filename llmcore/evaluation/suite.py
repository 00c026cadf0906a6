"""What a model is judged on, and how: two results can be compared when their suites are the same."""

from dataclasses import dataclass
from typing import Any

from llmcore.config.fairness import FairnessChecks
from llmcore.config.fingerprint import identity_of
from llmcore.config.generation import GenerationSettings
from llmcore.evaluation.bootstrap import Resampling
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.metrics import Metric, fairness_metrics, make_metric, make_metrics
from llmcore.evaluation.programs import NUM_CORRECT
from llmcore.storage import content_hash

__all__ = ["Suite"]

_VERSION = 4
"""Raised when the same model would give other predictions, or the same predictions other numbers, or more of them."""


@dataclass(frozen=True)
class Suite:
    """A labelled set, metrics, and how intervals are computed.

    Attributes:
        set_hash: `EvaluationSet.hash`.
        subject: The kind of the set, and its classes.
        metrics: Names of metrics of the kind (`config.judging.JUDGING`).
        choose_by: The metric, on validation, that chooses a model.
        num_resamples: Bootstrap resamples of an interval.
        seed: Seed of the resamples.
        generation: How models that write do so; None: the likeliest tokens, as many as each has learnt to write.
        fairness: What is measured of how models treat groups of people; None: nothing.
    """

    set_hash: str
    subject: Subject
    metrics: tuple[str, ...]
    choose_by: str
    num_resamples: int
    seed: int
    generation: GenerationSettings | None = None
    fairness: FairnessChecks | None = None

    def all_metrics(self) -> list[Metric]:
        """The metrics, with the one that chooses; behind them those of fairness.

        Raises:
            ConfigError: One of them is no metric of the kind.
        """
        of_quality = make_metrics(self.subject, dict.fromkeys((*self.metrics, self.choose_by)))
        return [*of_quality, *fairness_metrics(self.subject, self.fairness)]

    def choosing_metric(self) -> Metric:
        """The metric that chooses.

        Raises:
            ConfigError: It is no metric of the kind, or is many numbers.
        """
        return make_metric(self.subject, self.choose_by)

    @property
    def resampling(self) -> Resampling:
        """How intervals are computed."""
        return Resampling(self.num_resamples, self.seed)

    @property
    def runs_programs(self) -> bool:
        """Whether a metric asks how many of the programs that a model wrote pass their tests."""
        return any(NUM_CORRECT in metric.columns for metric in self.all_metrics())

    @property
    def hash(self) -> str:
        """SHA-256 of all of it; part of the name of every stored result."""
        return content_hash("suite", self._content())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, its hash included."""
        return {**self._content(), "hash": self.hash}

    def _content(self) -> dict[str, Any]:
        measured = None if self.fairness is None else identity_of(self.fairness) | {"max_counterfactual_gap": None}
        return {
            "version": _VERSION,
            "set": self.set_hash,
            "kind": self.subject.kind,
            "metrics": list(self.metrics),
            "choose_by": self.choose_by,
            "num_resamples": self.num_resamples,
            "seed": self.seed,
            "generation": None if self.generation is None else identity_of(self.generation),
            **({} if measured is None else {"fairness": measured}),
        }
