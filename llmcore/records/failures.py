"""What went wrong in an attempt, as each process saw it: each rank's own error, and each end of a group of workers."""

import socket
import time
import traceback
from os import getpid
from typing import Any

from llmcore.errors import StorageError
from llmcore.records.parts import PartsWriter, read_part
from llmcore.redaction import redact
from llmcore.storage import Folder
from llmcore.storage.retries import within

__all__ = ["FAILURE", "FailureWriter", "failures_of", "rank_errors_of", "record_rank_error"]

FAILURE = "failure.json"
"""Of a trial's attempt: `cause`, `error` and `time`, as its driver saw it."""
_FAILURES, _ERRORS = "failures", "errors"
_MOST_CHARACTERS = 20_000
_WRITTEN_WITHIN_S = 5.0
"""The group ends with its first rank: who writes for longer is killed while it does."""


class FailureWriter:
    """Writes each failure of a group of workers as a line of the attempt's `failures/part-00000.jsonl`."""

    def __init__(self, attempt: Folder) -> None:
        self._lines = PartsWriter(attempt / _FAILURES)

    def write(self, reasons: dict[int, str], details: dict[int, str]) -> None:
        """The group has failed now: a line by rank, and all that is known. Raises StorageError; the line is kept."""
        told = {str(rank): text[:_MOST_CHARACTERS] for rank, text in details.items()}
        ranks = {str(rank): reason for rank, reason in reasons.items()}
        self._lines.add({"time": time.time(), "ranks": ranks, "details": told})
        self._lines.flush()


def failures_of(attempt: Folder) -> list[dict[str, Any]]:
    """Each failure of an attempt's workers so far: `time`, and the reason of each failed rank in `ranks`.

    `details` has all that was known of each, where that is more.
    """
    parts = attempt / _FAILURES
    return [row for name in parts.names() for row in read_part(parts, name) if row]


def record_rank_error(attempt: Folder, rank: int, error: BaseException) -> None:
    """A rank tells of its own error before it leaves: when, where, what, and the stack.

    Those who wait for it fail a moment later, and who gathers errors from all cannot tell whose was the first. A
    storage that fails is no further error: it may be this one.
    """
    record = {
        "time": time.time(),
        "rank": rank,
        "host": socket.gethostname(),
        "pid": getpid(),
        "error": type(error).__name__,
        "message": redact(str(error))[:_MOST_CHARACTERS],
        "traceback": redact("".join(traceback.format_exception(error)))[-_MOST_CHARACTERS:],
    }
    try:
        with within(_WRITTEN_WITHIN_S):
            (attempt / _ERRORS).write_json(f"rank-{rank:05d}-{int(1000 * record['time'])}.json", record)
    except StorageError:
        pass


def rank_errors_of(attempt: Folder) -> list[dict[str, Any]]:
    """What ranks told of their own errors, all starts of the workers together, by time."""
    errors = attempt / _ERRORS
    found = (errors.find_json(name) for name in errors.names())
    return sorted((record for record in found if record is not None), key=lambda record: record["time"])
