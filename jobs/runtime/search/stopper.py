"""Ends a search in an orderly way when what it may cost is spent."""

import time
from collections.abc import Callable
from typing import Any

from ray.tune import Stopper

__all__ = ["StopWhenSpent"]

_LOOK_EVERY_S = 2.0


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
