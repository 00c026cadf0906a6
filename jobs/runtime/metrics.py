"""A run's numbers as Ray's metrics, which each node's agent hands to Prometheus.

Where no Ray is connected in this process nothing is set. A gauge keeps its value as long as its process lives; setting
one costs some microseconds, and sends nothing: Ray collects them every few seconds.
"""

import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.monitoring.metrics import METRICS
from llmcore.config.budget import BudgetSettings
from llmcore.train.place import Place

__all__ = ["RunMetrics"]

_OF_ROWS = {
    "step": "llmcore_step",
    "tokens_per_s": "llmcore_tokens_per_second",
    "loss": "llmcore_loss",
    "validation_loss": "llmcore_validation_loss",
    "mfu": "llmcore_mfu",
    "data_wait_fraction": "llmcore_data_wait_fraction",
    "checkpoint_time": "llmcore_checkpoint_timestamp_seconds",
    "checkpoint_s": "llmcore_checkpoint_duration_seconds",
}
"""What a training tells of itself, and the gauges that take it."""
_gauges: dict[str, Any] = {}


@dataclass(frozen=True)
class RunMetrics:
    """The gauges of one run, or of one trial of a search; plain data, so it may be pickled to any process of the run.

    Attributes:
        run: Its name.
        attempt: Number of the attempt.
        kind: Of job.
        trial: Of a search; empty elsewhere.
    """

    run: str
    attempt: int
    kind: str
    trial: str = ""

    @classmethod
    def of(cls, place: Place, kind: str) -> "RunMetrics":
        """Those of what is trained at a place."""
        holder = place.holder or place.run
        trial = place.run.url.removeprefix(holder.url).strip("/").removeprefix("trials/").partition("/")[0]
        return cls(holder.name, place.attempt, kind, trial)

    def set(self, name: str, value: float, label: str | None = None) -> None:
        """Set a gauge of the list; `label` is the value of the one that it has besides. Numbers that are none are not
        told. Raises KeyError for a name that is not in the list."""
        metric = METRICS[name]
        ray = sys.modules.get("ray")
        if ray is None or not ray.is_initialized() or not math.isfinite(value):
            return
        tags = {"run": self.run, "attempt": str(self.attempt), "kind": self.kind, "trial": self.trial}
        if metric.label is not None:
            assert label is not None, name
            tags[metric.label] = label
        if name not in _gauges:
            from ray.util.metrics import Gauge

            _gauges[name] = Gauge(metric.name, description=metric.help, tag_keys=metric.labels)
        _gauges[name].set(value, tags)

    def launched(self, at: float) -> None:
        """A training is on its way since then (Unix time): what it has not told yet has an age from now on."""
        self.set("llmcore_progress_timestamp_seconds", time.time())
        self.set("llmcore_checkpoint_timestamp_seconds", at)

    def told(self, numbers: Mapping[str, float]) -> None:
        """Numbers of a training, as `llmcore.train.telling.Watch` has them."""
        for name, value in numbers.items():
            if name in _OF_ROWS:
                self.set(_OF_ROWS[name], value)
        if "step" in numbers:
            self.set("llmcore_progress_timestamp_seconds", time.time())

    def spent(self, budget: BudgetSettings, fractions: Mapping[str, float], device_hours: float) -> None:
        """What a run has cost by now; `fractions` of the budget's bounds by their names."""
        for bound, fraction in fractions.items():
            self.set("llmcore_budget_fraction", fraction, bound)
        if budget.price_per_device_hour is not None:
            self.set("llmcore_money_spent", device_hours * budget.price_per_device_hour)
