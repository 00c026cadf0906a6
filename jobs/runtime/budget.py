"""What a run has cost by now, and its orderly end when that is what it may cost."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jobs.runtime.metrics import RunMetrics
from llmcore.config.budget import BudgetSettings
from llmcore.errors import BudgetSpentError, InterruptedRunError, StorageError
from llmcore.records import Attempt, ask_to_stop, attempt_folder, attempt_numbers, last_beat
from llmcore.storage import Folder

__all__ = ["check_budget", "fractions", "run_s", "spent", "within_budget"]

_LOOK_EVERY_S = 2.0


def spent(budget: BudgetSettings, hours: float, device_hours: float) -> str | None:
    """What of a budget is spent, in words; None while nothing is."""
    gone = (name for name, fraction in fractions(budget, hours, device_hours).items() if fraction >= 1)
    return next((f"budget.{name}={getattr(budget, name):g}" for name in gone), None)


def fractions(budget: BudgetSettings, hours: float, device_hours: float) -> dict[str, float]:
    """Which share of each of a budget's bounds is spent, by its name."""
    used = {"hours": hours, "device_hours": device_hours, "money": device_hours * (budget.price_per_device_hour or 0.0)}
    return {name: used[name] / bound for name in used if (bound := getattr(budget, name)) is not None}


def run_s(run: Folder, *, alive: int | None = None) -> float:
    """Seconds by the clock of all attempts of a run; that of the one that is alive, if one is, until now."""
    total = 0.0
    for number in attempt_numbers(run):
        attempt = attempt_folder(run, number)
        began: dict[str, Any] = attempt.find_json("begin.json") or {}
        ended = time.time() if number == alive else last_beat(attempt)
        if began and ended:
            total += max(0.0, ended - began["started"])
    return total


def check_budget(budget: BudgetSettings, run: Folder, num_devices: int) -> None:
    """Raises BudgetSpentError where earlier starts of a run have spent it: nothing more begins."""
    hours = run_s(run) / 3600 if budget.has_bound else 0.0
    if why := spent(budget, hours, hours * num_devices):
        raise BudgetSpentError(
            f"{why} is spent by earlier starts of {run.name}: raise it, and the same command goes on"
        )


@contextmanager
def within_budget(budget: BudgetSettings, attempt: Attempt, num_devices: int, kind: str) -> Iterator[None]:
    """Asks the workers of an attempt to save and leave when it is spent; says so with a BudgetSpentError.

    Workers hold their devices as long as the run goes, so its hours by the clock are those of each device.
    """
    attempt.ledger.price_per_device_hour = budget.price_per_device_hour
    metrics = RunMetrics(attempt.run.name, attempt.number, kind)
    found: list[str] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(_LOOK_EVERY_S):
            hours = run_s(attempt.run, alive=attempt.number) / 3600
            metrics.spent(budget, fractions(budget, hours, hours * num_devices), hours * num_devices)
            if why := spent(budget, hours, hours * num_devices):
                try:
                    ask_to_stop(attempt.folder, why)
                except StorageError:
                    continue  # it is asked again
                found.append(why)
                return

    thread = threading.Thread(target=look, daemon=True, name="budget")
    if budget.has_bound or budget.price_per_device_hour is not None:
        thread.start()
    try:
        yield
    except InterruptedRunError as error:
        if found:
            raise BudgetSpentError(f"{found[0]} is spent: raise it to go on; {error}") from error
        raise
    finally:
        done.set()
        metrics.forget()
