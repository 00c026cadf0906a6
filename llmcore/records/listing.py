"""Which runs there are, and how they stand: told from attempts and heartbeats, never from a word in a file."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from llmcore.records.attempt import COST
from llmcore.records.heartbeat import END, TIMING, Timing, holder_is, last_beat
from llmcore.records.identity import RUN
from llmcore.records.layout import BEGIN, attempt_folder, attempt_numbers
from llmcore.storage import Folder

__all__ = ["RunStatus", "Status", "list_runs", "status_of"]

Status = Literal["succeeded", "failed", "interrupted", "running", "dead"]

_NOT_RUNS = {"artifacts", "register"}
_CLOCK_SKEW_S = 60.0
_NUM_READERS = 16  # Each run is a handful of small requests; over a network they wait side by side.


@dataclass(frozen=True)
class RunStatus:
    """A run as it stands: `started` is Unix time of its first attempt, `seconds` and `money` are of all attempts.

    `money` is null when no attempt has a price.
    """

    kind: str
    name: str
    status: Status
    started: float | None
    attempts: int
    seconds: float
    money: float | None


def list_runs(storage: Folder, *, timing: Timing = TIMING) -> list[RunStatus]:
    """The runs of a storage, by name. Raises StorageError when it cannot be listed.

    A run that has neither ended nor beaten lately is `dead`. For one on another host, whose clock may differ by a
    minute, its heartbeat is watched for `timing.stale_s` if its time does not tell; all such runs at once.
    """
    names = [name for name in storage.names() if name not in _NOT_RUNS]
    with ThreadPoolExecutor(_NUM_READERS) as pool:
        histories = [history for history in pool.map(lambda name: _read(storage / name, timing), names) if history]
    alive = _watched([history.attempts[-1] for history in histories if history.alive is None], timing)
    return [history.status(alive) for history in histories]


def status_of(run: Folder, attempt: int, *, timing: Timing = TIMING) -> Status:
    """How one attempt of a run stands; it may be watched for `timing.stale_s`. Raises StorageError."""
    folder = attempt_folder(run, attempt)
    alive = _is_alive(folder, timing)
    if alive is None:
        alive = _watched([folder], timing)[folder]
    end = folder.find_json(END)
    return end["status"] if end is not None else "running" if alive else "dead"


@dataclass(frozen=True)
class _History:
    """What was read of one run; `alive` is of its newest attempt, None where only watching would tell."""

    kind: str
    name: str
    attempts: list[Folder]
    begins: list[dict[str, Any]]
    beats: list[float | None]
    ends: list[dict[str, Any] | None]
    prices: list[float | None]
    alive: bool | None

    def status(self, watched: Mapping[Folder, bool]) -> RunStatus:
        newest_end = self.ends[-1] if self.ends else None
        alive = watched[self.attempts[-1]] if self.alive is None else self.alive
        status: Status = newest_end["status"] if newest_end is not None else "running" if alive else "dead"
        prices = [price for price in self.prices if price is not None]
        return RunStatus(
            kind=self.kind,
            name=self.name,
            status=status,
            started=self.begins[0].get("started") if self.begins else None,
            attempts=len(self.attempts),
            seconds=sum(map(_seconds, self.begins, self.beats, self.ends)),
            money=sum(prices) if prices else None,
        )


def _seconds(begin: Mapping[str, Any], beat: float | None, end: Mapping[str, Any] | None) -> float:
    """How long an attempt took; one that left no end, until its last sign of life."""
    if end is not None:
        return float(end["seconds"])
    return beat - begin["started"] if beat is not None and "started" in begin else 0.0


def _read(run: Folder, timing: Timing) -> _History | None:
    record = run.find_json(RUN)
    if record is None:
        return None
    attempts = [attempt_folder(run, number) for number in attempt_numbers(run)]
    # Before the ends are read: a run that ends meanwhile is found ended, never dead.
    alive = _is_alive(attempts[-1], timing) if attempts else False
    return _History(
        kind=record["kind"],
        name=run.name,
        attempts=attempts,
        begins=[attempt.find_json(BEGIN) or {} for attempt in attempts],
        beats=[last_beat(attempt) for attempt in attempts],
        ends=[attempt.find_json(END) for attempt in attempts],
        prices=[(attempt.find_json(COST) or {}).get("money") for attempt in attempts],
        alive=alive,
    )


def _is_alive(attempt: Folder, timing: Timing) -> bool | None:
    """Whether an attempt without an end is alive; None where only watching would tell."""
    if attempt.find_json(END) is not None:
        return False
    beat = last_beat(attempt)
    if beat is None:
        return False
    where = holder_is(attempt.find_json(BEGIN) or {})
    age_s = time.time() - beat
    if where == "gone" or age_s > timing.stale_s + _CLOCK_SKEW_S:
        return False
    if abs(age_s) <= timing.stale_s:
        return True
    return None if where == "elsewhere" else False


def _watched(attempts: Sequence[Folder], timing: Timing) -> dict[Folder, bool]:
    """Whether each heartbeat changes within `stale_s`."""
    before = {attempt: last_beat(attempt) for attempt in attempts}
    alive = dict.fromkeys(attempts, False)
    deadline = time.monotonic() + timing.stale_s
    while not all(alive.values()) and time.monotonic() < deadline:
        time.sleep(timing.beat_s / 8)
        alive |= {attempt: True for attempt in attempts if last_beat(attempt) != before[attempt]}
    return alive
