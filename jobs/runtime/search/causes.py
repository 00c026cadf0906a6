"""Why a trial failed: a word for it, and whether it may pass when the trial is begun again."""

from collections.abc import Iterator
from typing import Literal

from llmcore.errors import DivergedError, HungRankError, LLMCoreError, NonFiniteError
from llmcore.records.signs import CUT_OFF, CUT_OFF_WORDS, HUNG, LOST, MEMORY_WORDS

__all__ = ["Cause", "cause_of", "may_pass"]

Cause = Literal["out_of_memory", "non_finite", "hang", "timeout", "crash", "budget", "configuration", "error"]


def may_pass(cause: Cause) -> bool:
    """Whether another try may end otherwise: a process was lost, or one hung."""
    return cause in ("crash", "hang")


def cause_of(error: BaseException) -> Cause:
    """What ended a training; of several ranks' reasons that which explains the others."""
    found = {_one(each) for each in _all(error)}
    for cause in ("out_of_memory", "non_finite", "hang"):
        if cause in found:
            return cause
    return "crash" if "crash" in found and "error" not in found else "error"


def _one(error: BaseException) -> Cause | None:
    name = type(error).__name__
    if isinstance(error, DivergedError | NonFiniteError):
        return "non_finite"
    if isinstance(error, MemoryError) or name == "OutOfMemoryError" or _says(error, MEMORY_WORDS):
        return "out_of_memory"
    if isinstance(error, HungRankError) or name in HUNG:
        return "hang"
    if name in LOST or name in CUT_OFF or _says(error, CUT_OFF_WORDS):
        return "crash"
    return (
        None if isinstance(error, LLMCoreError) or name.endswith(("GroupError", "HealthCheckFailedError")) else "error"
    )


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(each in text for each in words)


def _all(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from, and the failures of each rank that a worker group's error has."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        left += [one.__cause__, getattr(one, "cause", None), getattr(one, "health_check_failure", None)]
        left += list(getattr(one, "worker_failures", {}).values())
