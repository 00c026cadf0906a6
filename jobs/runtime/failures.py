"""Failures of a run's workers, in our words: recorded when the group starts anew, and told when it does not."""

from collections.abc import Mapping
from typing import Any

from ray.train import UserCallback
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError

from jobs.runtime.console import say
from jobs.runtime.metrics import RunMetrics
from llmcore.errors import LLMCoreError, RunError, StorageError
from llmcore.records import FailureWriter, failures_of
from llmcore.storage import Folder

__all__ = ["FailureLog", "in_our_words"]


class FailureLog(UserCallback):  # type: ignore[misc]  # Ray is not typed
    """Writes down each failure of the worker group: see `FailureWriter`; and counts them for who watches the run."""

    def __init__(self, attempt: Folder, metrics: RunMetrics) -> None:
        self._failures, self._metrics = FailureWriter(attempt), metrics
        self._num_failures = len(failures_of(attempt))
        metrics.set("llmcore_restarts", self._num_failures)

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
        """Workers have failed."""
        errors = dict(sorted(worker_exceptions.items()))
        self._num_failures += 1
        self._metrics.set("llmcore_restarts", self._num_failures)
        try:
            self._failures.write(
                {rank: _reason(error) for rank, error in errors.items()},
                {rank: str(_cause(error)) for rank, error in errors.items()},
            )
        except StorageError as error:  # may be why they failed: the next failure, or the run's end, tells of it
            say(f"failures: {error}")


def in_our_words(failures: Mapping[int, Exception], otherwise: str) -> LLMCoreError:
    """The workers' own error where it is one of ours, else one that has each failed rank and its reason."""
    errors = dict(sorted(failures.items()))
    for rank, error in errors.items():
        if isinstance(error, LLMCoreError):
            # A storage that could be used at the door is no mistake of the user's when it fails now.
            kind = RunError if isinstance(error, StorageError) else type(error)
            return kind(f"rank {rank}: {error}")
    return RunError("; ".join(f"rank {rank}: {_reason(error)}" for rank, error in errors.items()) or otherwise)


def _reason(error: BaseException) -> str:
    if isinstance(error, LLMCoreError):
        return str(error)
    if isinstance(error, WorkerHealthCheckTimeoutError):
        return f"it does not answer: its process is stopped, or hangs outside Python ({_first_line(error)})"
    error = _cause(error)
    return f"{type(error).__name__}: {_first_line(error)}"


def _cause(error: BaseException) -> BaseException:
    """What a health check found, which Ray Train wraps."""
    return error.health_check_failure if isinstance(error, WorkerHealthCheckFailedError) else error


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), "")
