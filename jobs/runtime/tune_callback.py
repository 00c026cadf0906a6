"""What Tune tells of trials, put into their records."""

import time
from collections.abc import Callable
from typing import Any

from ray.tune import Callback

from jobs.runtime.trials import TrialRecords

__all__ = ["WriteRecords"]


class WriteRecords(Callback):  # type: ignore[misc]  # Ray is not typed
    """Writes a trial's record as it ends; `say` is told a line of each."""

    def __init__(self, records: TrialRecords, scheduler: Any, say: Callable[[str], None]) -> None:
        self._records, self._scheduler, self._say = records, scheduler, say

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks into snapshots that nobody reads; the records hold what cannot be pickled.
        return {}

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        """A trial's driver starts; the scheduler is told what the trial reported before its driver was killed."""
        for report in self._records.started(trial.config["trial"], time.time()):
            self._scheduler.on_trial_result(None, trial, report)

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **_: Any) -> None:
        """A trial has validated."""
        self._records.reported(trial.config["trial"], result)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        """A trial has ended by itself, or the scheduler has stopped it."""
        self._say(self._records.write(trial.config["trial"], error=None))

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        """A trial has failed."""
        self._say(self._records.write(trial.config["trial"], error=_reason(trial)))


def _reason(trial: Any) -> str:
    """Why a trial failed: the last line of what it raised."""
    error = trial.get_pickled_error() or trial.get_error()
    cause = getattr(error, "cause", error)
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[-1] if lines else type(cause).__name__
