"""Rows of metrics: written in parts, since object stores cannot append; merged by the reader."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from llmcore.records.layout import attempt_folder, attempt_numbers
from llmcore.records.parts import PartsWriter, read_part
from llmcore.storage import Folder

__all__ = ["METRICS", "MetricsWriter", "read_metrics", "read_metrics_counted", "seconds_before_restarts"]

METRICS = "metrics"
_SESSION, _SHARE = "session", "_fraction"


class MetricsWriter:
    """Collects rows and writes them under `<folder>/metrics/`, at most every `flush_every_s`; one writer at a time.

    A worker that is restarted within an attempt goes on with the next part.
    """

    def __init__(self, folder: Folder, *, flush_every_s: float = 5.0, resumed_at: int | None = None) -> None:
        """`resumed_at` is the step of the checkpoint that is gone on from: older rows of later steps are void."""
        self._parts = PartsWriter(folder / METRICS)
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
    """All rows of a run in order, each step told once: see `read_metrics_counted`."""
    return read_metrics_counted(run)[0]


def read_metrics_counted(run: Folder) -> tuple[list[dict[str, Any]], int]:
    """All rows of a run in order, and the number of lines that could not be read.

    Where a later writer went on from step k (or, if it did not say so, from before its first row), rows of later steps
    that an earlier one wrote are replaced: they tell of steps that were taken again.
    """
    rows: list[dict[str, Any]] = []
    num_torn = 0
    first_row_tells = False
    for row in _lines_of(run):
        if row is None:
            num_torn += 1
        elif _SESSION in row:
            resumed_at = row[_SESSION]["resumed_at"]
            first_row_tells = resumed_at is None
            if resumed_at is not None:
                rows = _up_to(rows, resumed_at)
        else:
            if first_row_tells and "step" in row:
                rows, first_row_tells = _up_to(rows, row["step"] - 1), False
            rows.append(row)
    return rows, num_torn


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


def _up_to(rows: list[dict[str, Any]], step: int) -> list[dict[str, Any]]:
    return [row for row in rows if "step" not in row or row["step"] <= step]


def _lines_of(run: Folder) -> Iterator[dict[str, Any] | None]:
    for number in attempt_numbers(run):
        parts = attempt_folder(run, number) / METRICS
        for name in parts.names():
            yield from read_part(parts, name)
