"""Ends a search in an orderly way when what it may cost is spent."""

import time
from collections.abc import Callable
from typing import Any

from ray.tune import Stopper

from llmcore.config.tune import BudgetSettings

__all__ = ["StopWhenSpent", "spent"]

_LOOK_EVERY_S = 2.0


def spent(budget: BudgetSettings, hours: float, device_hours: float) -> str | None:
    """What of a budget is spent, in words; None while nothing is."""
    if budget.hours is not None and hours >= budget.hours:
        return f"budget.hours={budget.hours:g}"
    if budget.device_hours is not None and device_hours >= budget.device_hours:
        return f"budget.device_hours={budget.device_hours:g}"
    price = budget.price_per_device_hour
    if budget.money is not None and price is not None and device_hours * price >= budget.money:
        return f"budget.money={budget.money:g}"
    return None


class StopWhenSpent(Stopper):  # type: ignore[misc]  # Ray is not typed
    """Asks every two seconds what is spent; `why` says it once something is."""

    def __init__(self, ask: Callable[[], str | None]) -> None:
        self._ask, self._asked = ask, 0.0
        self.why: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it into snapshots that nobody reads

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether one trial is to stop: all, or none."""
        return self.stop_all()

    def stop_all(self) -> bool:
        """Whether all are to."""
        if self.why is None and time.monotonic() - self._asked > _LOOK_EVERY_S:
            self._asked, self.why = time.monotonic(), self._ask()
        return self.why is not None
