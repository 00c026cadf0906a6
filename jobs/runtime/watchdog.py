"""Ends a rank that hangs, and tells where it stands.

When one rank hangs, the others wait for it in a collective: the one at fault is the one that does not. It is told apart
by its stack, and the others are given time until the group ends with it.
"""

import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextvars import copy_context
from pathlib import Path
from typing import TypeVar

import jobs
import llmcore
from llmcore.errors import HungRankError

__all__ = ["Pulse", "supervised"]

T = TypeVar("T")
_START_S = 1800.0
"""On top of the bound until the first step has ended: imports, building, compiling."""
_OTHERS_FIRST = 2.0
"""Times the bound for a rank that waits for others: they are at fault, or else all wait for one another."""
_LOOK_EVERY_S = 0.5
_NUM_FRAMES = 6
_OURS = tuple(str(Path(package.__path__[0])) for package in (jobs, llmcore))
_WAITS_IN = "torch/distributed/"


class Pulse:
    """When a rank gave its last sign of life; called before each step."""

    def __init__(self) -> None:
        self._num_beats = 0
        self._last = time.monotonic()

    def __call__(self) -> None:
        """A sign of life."""
        self._num_beats, self._last = self._num_beats + 1, time.monotonic()

    def silent_s(self) -> float:
        """Seconds without one, beyond those that a start may take."""
        return time.monotonic() - self._last - (_START_S if self._num_beats < 2 else 0.0)


def supervised(work: Callable[[Pulse], T], hang_s: float) -> T:
    """What `work` returns or raises; it runs in a thread of its own, and gives signs of life.

    Raises:
        HungRankError: where there was none for `hang_s`, with the stack; the thread stays, for the process to end.
    """
    pulse = Pulse()
    done: list[Callable[[], T]] = []
    context = copy_context()

    def run() -> None:
        try:
            result = context.run(work, pulse)
            done.append(lambda: result)
        except BaseException as error:
            failure = error
            done.append(lambda: _raise(failure))

    thread = threading.Thread(target=run, daemon=True, name="rank")
    thread.start()
    while not done:
        thread.join(_LOOK_EVERY_S)
        if pulse.silent_s() > hang_s and not done:
            stack = _stack_of(thread)
            if pulse.silent_s() > hang_s * (_OTHERS_FIRST if _waits(stack) else 1.0):
                raise HungRankError(f"no step has ended for {pulse.silent_s():.0f} s; it stands in\n{_told(thread)}")
    return done[0]()


def _raise(error: BaseException) -> T:  # type: ignore[type-var]  # it returns nothing at all
    raise error


def _stack_of(thread: threading.Thread) -> traceback.StackSummary:
    frame = sys._current_frames().get(thread.ident or 0)
    return traceback.extract_stack(frame) if frame is not None else traceback.StackSummary()


def _waits(stack: traceback.StackSummary) -> bool:
    """Whether it is inside a collective."""
    return any(_WAITS_IN in frame.filename for frame in stack)


def _told(rank: threading.Thread) -> str:
    """The innermost frames of the rank, and of the other threads that are in our code: it may wait for one of them."""
    return "\n".join(_of_threads(rank))


def _of_threads(rank: threading.Thread) -> Iterator[str]:
    for thread in [rank, *(other for other in threading.enumerate() if other is not rank)]:
        stack = _stack_of(thread)
        ours = any(frame.filename.startswith(_OURS) for frame in stack)
        if thread is rank or (ours and thread is not threading.current_thread()):
            yield f"thread {thread.name}:"
            yield from (f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in stack[-_NUM_FRAMES:][::-1])
