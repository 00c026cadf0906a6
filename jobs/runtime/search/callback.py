"""What Tune tells of trials, put into their records."""

import time
from collections.abc import Callable
from typing import Any

from ray.tune import Callback

from jobs.runtime.search.records import TrialRecords
from jobs.runtime.search.schedulers import NO_CONTROLLER

__all__ = ["WriteRecords"]


class WriteRecords(Callback):  # type: ignore[misc]  # Ray is not typed
    """Writes a trial's record as it ends; `say` is told a line of each."""

    def __init__(self, records: TrialRecords, scheduler: Any, say: Callable[[str], None]) -> None:
        self._records, self._scheduler, self._say = records, scheduler, say
        self._told: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks into snapshots that nobody reads; the records hold what cannot be pickled.
        return {}

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        """A trial's driver starts; the scheduler is told what the trial reported before this start of the search."""
        older = self._records.started(_id(trial), time.time())
        if trial.trial_id not in self._told:  # one of a population starts again and again
            self._told.add(trial.trial_id)
            for report in older:
                self._scheduler.on_trial_result(NO_CONTROLLER, trial, report)

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **_: Any) -> None:
        """A trial has validated."""
        self._records.reported(_id(trial), result)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        """A trial has ended by itself, was stopped by the scheduler, or its driver has written down why it failed."""
        self._say(self._records.write(_id(trial)))

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        """A trial's driver was lost."""
        self._say(self._records.write(_id(trial), cause="crash", error=_reason(trial)))


def _id(trial: Any) -> str:
    return str(trial.config["point"]["trial"])


def _reason(trial: Any) -> str:
    """Why a driver was lost: the last line of what Ray says."""
    error = trial.get_pickled_error() or trial.get_error()
    cause = getattr(error, "cause", error)
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[-1] if lines else type(cause).__name__
