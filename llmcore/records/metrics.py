"""Rows of metrics: written in parts, since object stores cannot append; merged by the reader."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from math import inf
from typing import Any

from llmcore.records.layout import attempt_folder, attempt_numbers
from llmcore.records.parts import PartsWriter, read_part
from llmcore.storage import Folder

__all__ = ["METRICS", "MetricRows", "MetricsWriter", "Session", "read_metrics", "read_metrics_counted"]
__all__ += ["seconds_before_restarts"]

METRICS = "metrics"
_SESSION, _SHARE = "session", "_fraction"


class MetricsWriter:
    """Collects rows and writes them under `<folder>/metrics/`, at most every `flush_every_s`; one writer at a time.

    Workers that are started again within an attempt, as another session, write parts of their own.
    """

    def __init__(
        self, folder: Folder, session: int = 1, *, flush_every_s: float = 5.0, resumed_at: int | None = None
    ) -> None:
        """`resumed_at` is the step of the checkpoint that is gone on from: older rows of later steps are void."""
        self._parts = PartsWriter(folder / METRICS, of=f"session-{session:03d}-" if session > 1 else "")
        self._parts.add({_SESSION: {"resumed_at": resumed_at}}, written=True)
        self._flush_every_s = flush_every_s
        self._flushed = time.monotonic()

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row (plain numbers and words). Raises StorageError when a due flush fails."""
        self._parts.add(row)
        if self._parts.is_full or time.monotonic() - self._flushed >= self._flush_every_s:
            self.flush()

    def flush(self) -> None:
        """Write what has not been written. Raises StorageError; the rows are kept, and the next flush tries again."""
        self._flushed = time.monotonic()
        self._parts.flush()

    def close(self) -> None:
        """Write what has not been written. Raises StorageError."""
        self.flush()


def read_metrics(run: Folder) -> list[dict[str, Any]]:
    """All rows of a run in order, each step told once: see `MetricRows`."""
    return read_metrics_counted(run)[0]


def read_metrics_counted(run: Folder) -> tuple[list[dict[str, Any]], int]:
    """All rows of a run in order, and the number of lines that could not be read: see `MetricRows`."""
    found = MetricRows(run)
    return [row for _, row in found], found.num_torn


@dataclass(eq=False)
class Session:
    """What one writer told: a start of the workers, of which an attempt has several where they were restarted.

    Attributes:
        attempt: Number of the attempt; 0 for rows that stand before any.
        resumed_at: Step that it went on from; None where it has told of no step.
        last_step: The largest step of its rows, also of those that are void; None where it has told of no step.
        elapsed_s: Seconds from its start to its last row that tells.
    """

    attempt: int
    resumed_at: int | None = None
    last_step: int | None = None
    elapsed_s: float = 0.0


class MetricRows:
    """The rows of a run, one at a time, and its `sessions`: a run of millions of rows is never in memory whole.

    It is read twice: first for where later writers went on, then for the rows. Where a later writer went on from step k
    (or, if it did not say so, from before its first row), rows of later steps that an earlier one wrote are left out:
    they tell of steps that were taken again. What a living run adds meanwhile is left for the next reader.
    """

    def __init__(self, run: Folder) -> None:
        """Raises StorageError."""
        self.sessions = [Session(attempt=0)]
        self.num_torn = 0
        self._parts: list[tuple[Folder, str, int]] = []
        for attempt, folder, name in _parts_of(run):
            num_lines = 0
            for num_lines, row in enumerate(read_part(folder, name), 1):  # noqa: B007
                if row is None:
                    self.num_torn += 1
                elif _SESSION in row:
                    self.sessions.append(Session(attempt, row[_SESSION]["resumed_at"]))
                else:
                    self._told(self.sessions[-1], row)
            self._parts.append((folder, name, num_lines))

    def _told(self, session: Session, row: Mapping[str, Any]) -> None:
        step = row.get("step")
        if step is not None:
            if session.resumed_at is None and session is not self.sessions[0]:
                session.resumed_at = step - 1
            session.last_step = step if session.last_step is None else max(step, session.last_step)
        session.elapsed_s = row.get("elapsed_s", session.elapsed_s)

    def __iter__(self) -> Iterator[tuple[Session, dict[str, Any]]]:
        """Rows that stand, in order, each with the session that it is of. Raises StorageError."""
        stands_up_to = self._stands_up_to()
        place = 0
        for row in chain.from_iterable(islice(read_part(folder, name), lines) for folder, name, lines in self._parts):
            if row is None:
                continue
            if _SESSION in row:
                place += 1
            elif "step" not in row or row["step"] <= stands_up_to[place]:
                yield self.sessions[place], row

    def _stands_up_to(self) -> list[float]:
        """Of each session, the largest step that no later one has taken again."""
        steps, lowest = [], inf
        for session in reversed(self.sessions):
            steps.append(lowest)
            lowest = min(lowest, inf if session.resumed_at is None else session.resumed_at)
        return steps[::-1]


def seconds_before_restarts(attempt: Folder) -> dict[str, float] | None:
    """Seconds by category that an attempt's workers spent on steps that stayed, before their last start.

    Of that its ledger tells; those that were cut off have left their rows alone: shares of the time since the row
    before, and the time since they began. None where they started once.
    """
    num_sessions = 0
    kept: list[tuple[int, dict[str, float]]] = []
    spent: list[tuple[int, dict[str, float]]] = []
    told_s = 0.0
    parts = attempt / METRICS
    for row in (row for name in parts.names() for row in read_part(parts, name) if row is not None):
        if _SESSION in row:
            num_sessions += 1
            kept, spent, told_s = [*kept, *spent], [], 0.0
            kept = [one for one in kept if one[0] <= (row[_SESSION]["resumed_at"] or 0)]
        elif "elapsed_s" in row and "step" in row:
            window_s, told_s = row["elapsed_s"] - told_s, row["elapsed_s"]
            shares = {key.removesuffix(_SHARE): value for key, value in row.items() if key.endswith(_SHARE)}
            spent.append((row["step"], {category: share * window_s for category, share in shares.items()}))
    if num_sessions < 2:
        return None
    return {
        category: sum(seconds.get(category, 0.0) for _, seconds in kept)
        for category in sorted({category for _, seconds in kept for category in seconds})
    }


def _parts_of(run: Folder) -> Iterator[tuple[int, Folder, str]]:
    """Each part with the number of its attempt and its folder, in order."""
    for number in attempt_numbers(run):
        parts = attempt_folder(run, number) / METRICS
        yield from ((number, parts, name) for name in parts.names())
