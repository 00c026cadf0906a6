"""How long trials have held devices, over all starts of a search: what its budget is compared with.

Each start of a trial leaves `held.json` under its attempt. One without an end was cut off with its search, whose last
heartbeat says until when it can have lived.
"""

import time
from collections.abc import Sequence

from llmcore.records import attempt_folder, attempt_numbers, last_beat
from llmcore.storage import Folder

__all__ = ["begin_holding", "end_holding", "has_held", "held_device_s"]

_HELD = "held.json"


def begin_holding(trial: Folder, attempt: int, num_devices: int, time_s: float) -> None:
    """A trial has got its devices, at a time in seconds since the epoch; the first time counts."""
    records = attempt_folder(trial, attempt)
    if records.find_json(_HELD) is None:
        records.write_json(_HELD, {"began": time_s, "ended": None, "num_devices": num_devices})


def end_holding(trial: Folder, attempt: int, time_s: float) -> None:
    """It has given them back."""
    records = attempt_folder(trial, attempt)
    held = records.find_json(_HELD)
    if held is not None:
        records.write_json(_HELD, held | {"ended": time_s})


def has_held(trial: Folder, attempt: int) -> bool:
    """Whether a trial got its devices in an attempt."""
    return attempt_folder(trial, attempt).find_json(_HELD) is not None


def held_device_s(search: Folder, trials: Sequence[str], *, alive: int) -> float:
    """Device-seconds of trials, over all attempts; those of the attempt that is alive are counted until now."""
    total = 0.0
    for trial in trials:
        folder = search / "trials" / trial
        for number in attempt_numbers(folder):
            held = attempt_folder(folder, number).find_json(_HELD)
            if held is not None:
                ended = held["ended"] or (time.time() if number == alive else last_beat(attempt_folder(search, number)))
                total += max(0.0, (ended or held["began"]) - held["began"]) * held["num_devices"]
    return total
