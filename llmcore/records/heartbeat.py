"""The sign of life of an attempt, and what its silence means."""

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import psutil

from llmcore.errors import RunHeldError, StorageError
from llmcore.records.layout import BEGIN
from llmcore.storage import Folder
from llmcore.storage.retries import within

__all__ = [
    "END",
    "HEARTBEAT",
    "SUBMISSION",
    "TIMING",
    "Heartbeat",
    "Timing",
    "await_silence",
    "holder_is",
    "last_beat",
    "lived",
]

HEARTBEAT = "heartbeat.json"
END = "end.json"
SUBMISSION = "LLMCORE_SUBMISSION"
"""Names the submission that a process belongs to: `<job>-<number>`. A later number is sent when Ray has given up the
earlier ones."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Timing:
    """Seconds between beats, of silence that means death, and for which ranks may outlive their driver."""

    beat_s: float = 2.0
    stale_s: float = 10.0
    drained_s: float = 3.0  # Ranks were seen writing 2.1 s after their driver's SIGKILL; longer than one beat, too.


TIMING = Timing()


class Heartbeat:
    """Writes `heartbeat.json` from a thread of its own, until stopped or until the process ends."""

    def __init__(self, folder: Folder, beat_s: float, say: Say) -> None:
        self._folder, self._beat_s, self._say = folder, beat_s, say
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._beat()
        self._thread.start()

    def stop(self) -> None:
        """Stop beating; when it returns nothing more is written."""
        self._stopped.set()
        self._thread.join()

    def _beat(self) -> None:
        with within(self._beat_s):  # the next beat says more than this one said late
            self._folder.write_json(HEARTBEAT, {"time": time.time()})

    def _run(self) -> None:
        failing = False
        while not self._stopped.wait(self._beat_s):
            try:
                self._beat()
                failing = False
            except StorageError as error:  # The storage may come back; the run itself decides whether it can go on.
                if not failing:
                    self._say(f"heartbeat: {error}")
                failing = True


def last_beat(attempt: Folder) -> float | None:
    """Unix time of the attempt's last sign of life by its own clock; None when it left none."""
    beat: dict[str, Any] = attempt.find_json(HEARTBEAT) or {}
    begin: dict[str, Any] = attempt.find_json(BEGIN) or {}
    return beat.get("time") or begin.get("started")


def lived(attempt: Folder) -> tuple[float, float]:
    """When an attempt began, and its last sign of life, Unix time: alike where nothing tells that it lived at all.

    Of a start that was killed and left no ledger that is all that is known of what it has cost.
    """
    began: float | None = (attempt.find_json(BEGIN) or {}).get("started")
    ended = last_beat(attempt)
    began = ended if began is None else began
    return (0.0, 0.0) if began is None or ended is None else (began, max(began, ended))


def holder_is(begin: dict[str, Any]) -> Literal["elsewhere", "gone", "present"]:
    """Whether the process of a `begin.json` is on this host, and there: not ended, and not another with its number."""
    if begin.get("host") != socket.gethostname():
        return "elsewhere"
    try:
        process = psutil.Process(begin["pid"])
        reused = process.create_time() > begin["started"] + 1
        return "gone" if reused or process.status() == psutil.STATUS_ZOMBIE else "present"
    except psutil.NoSuchProcess:
        return "gone"


def await_silence(attempt: Folder, timing: Timing, say: Say) -> None:
    """Return when the attempt has ended or is dead; it is dead after a silence of `stale_s`.

    Silence is a heartbeat that does not change, by the clock of the one who waits: clocks of two hosts may differ. On
    one host the heartbeat's own time counts too, and when its process is gone `drained_s` is enough, for its ranks.
    Raises RunHeldError as soon as it beats, unless Ray has given it up: cut off from Ray, but not from the storage, it
    beats on until it finds that a later one has begun.
    """
    if attempt.find_json(END) is not None:
        return
    begin: dict[str, Any] = attempt.find_json(BEGIN) or {}
    where = holder_is(begin)
    beat = last_beat(attempt)
    given_up = _is_earlier(begin.get("submission"), os.environ.get(SUBMISSION))
    needed_s = timing.drained_s if where == "gone" or given_up else timing.stale_s
    silent_s = 0.0
    if where != "elsewhere" and beat is not None:
        silent_s = max(0.0, time.time() - beat)
    if silent_s >= needed_s:
        return
    holder = f"host {begin.get('host', '?')}, process {begin.get('pid', '?')}, attempt {attempt.name}"
    say(f"{attempt.url} has not ended ({holder}): waiting up to {needed_s - silent_s:.0f} s for a sign of life")
    deadline = time.monotonic() + needed_s - silent_s
    while time.monotonic() < deadline:
        time.sleep(min(timing.beat_s / 8, max(0.0, deadline - time.monotonic())))
        if attempt.find_json(END) is not None:
            return
        if last_beat(attempt) != beat and not given_up:
            raise RunHeldError(
                f"{attempt.url} is alive ({holder}): a run has one writer; wait for it, stop it, or give another `name`"
            )


def _is_earlier(theirs: str | None, ours: str | None) -> bool:
    """Whether both are submissions of one job, and theirs was sent before ours."""
    (their_job, _, their_number), (our_job, _, our_number) = ((name or "").rpartition("-") for name in (theirs, ours))
    are_numbers = their_number.isdecimal() and our_number.isdecimal()
    return their_job == our_job != "" and are_numbers and int(their_number) < int(our_number)
