"""A run's numbers as Ray's metrics, which each node's agent hands to Prometheus.

Where no Ray is connected in this process nothing is set. Ray (2.60) forgets a gauge that was not set again since it
collected it, every ten seconds: so a thread sets all that is known twice as often, and what a step waits for is one
entry in a dictionary. Nothing is kept of a run that its process is done with: see `forget`.
"""

import math
import sys
import threading
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
        """Set a gauge of the list; `label` is the value of the one that it has besides.

        Numbers that are not finite are left out. Raises KeyError for a name that is not in the list.
        """
        assert (METRICS[name].label is None) == (label is None), name
        ray = sys.modules.get("ray")
        if ray is not None and math.isfinite(value) and ray.is_initialized():
            _kept[self, name, label] = value
            _keep()

    def forget(self) -> None:
        """This process is done with the run: it tells no more of it, so that nothing of it grows old."""
        for key in [key for key in list(_kept) if key[0] == self]:
            _kept.pop(key, None)

    def who(self) -> dict[str, Any]:
        """The same, for the lines that a process logs: see `llmcore.logs.about`."""
        return {"run": self.run, "attempt": self.attempt, "kind": self.kind, "trial": self.trial or None}

    def _labels(self) -> dict[str, str]:
        return {"run": self.run, "attempt": str(self.attempt), "kind": self.kind, "trial": self.trial}

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


_kept: dict[tuple[RunMetrics, str, str | None], float] = {}
"""The values that this process knows, by whose they are, the gauge's name, and its further label."""
_keeper: threading.Thread | None = None


def _keep() -> None:
    """Have a thread set what is kept, until Ray is left."""
    global _keeper  # noqa: PLW0603  # one a process, whoever has something to tell
    if _keeper is None or not _keeper.is_alive():
        _keeper = threading.Thread(target=_set_again, daemon=True, name="metrics")
        _keeper.start()


def _set_again() -> None:
    import ray
    from ray.util.metrics import Gauge

    every_s = max(0.5, ray._config.metrics_report_interval_ms() / 2000)
    gauges: dict[str, Any] = {}
    while ray.is_initialized():
        for (metrics, name, label), value in list(_kept.items()):
            metric = METRICS[name]
            if name not in gauges:
                gauges[name] = Gauge(metric.name, description=metric.help, tag_keys=metric.labels)
            further = {} if metric.label is None else {metric.label: label or ""}
            gauges[name].set(value, metrics._labels() | further)
        time.sleep(every_s)
    _kept.clear()
