"""Ends a rank that hangs, and tells where it stands.

When one rank hangs, the others wait for it in a collective, or for a thread that does: the one at fault is the one that
does not. It is told apart by its stacks, and the others are given time until the group ends with it.
"""

import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, wait
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
_NUM_FRAMES = 12
_OURS = tuple(str(Path(package.__path__[0])) for package in (jobs, llmcore))
_IDLE = ("/threading.py", "/queue.py")
"""Where a thread stands that has nothing to do."""
_WAITS_IN = ("torch/distributed/", "llmcore/train/summed.py", "deepspeed/runtime/zero/partition")
"""Where collectives are waited for: also one that returned at once, by who reads its result."""


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
    outcome: Future[T] = Future()
    context = copy_context()

    def run() -> None:
        try:
            outcome.set_result(context.run(work, pulse))
        except BaseException as error:
            outcome.set_exception(error)

    rank = threading.Thread(target=run, daemon=True, name="rank")
    rank.start()
    while not wait([outcome], timeout=_LOOK_EVERY_S).done:
        if pulse.silent_s() > hang_s:
            stacks = _stacks_of(rank)
            if pulse.silent_s() > hang_s * (_OTHERS_FIRST if _waits(stacks) else 1.0):
                raise HungRankError(f"no step has ended for {pulse.silent_s():.0f} s; it stands in\n{_told(stacks)}")
    return outcome.result()


def _stacks_of(rank: threading.Thread) -> dict[str, traceback.StackSummary]:
    """Where the rank stands, and by name the other threads at work in our code: it may wait for one of them."""
    frames = sys._current_frames()
    stacks = {
        thread.name: traceback.extract_stack(frames[thread.ident])
        for thread in [rank, *threading.enumerate()]
        if thread.ident in frames and thread is not threading.current_thread()
    }
    return {
        name: stack
        for name, stack in stacks.items()
        if name == rank.name
        or (not stack[-1].filename.endswith(_IDLE) and any(frame.filename.startswith(_OURS) for frame in stack))
    }


def _waits(stacks: dict[str, traceback.StackSummary]) -> bool:
    """Whether a collective is what it waits for."""
    frames = [frame for stack in stacks.values() for frame in stack]
    return any(place in frame.filename for frame in frames for place in _WAITS_IN)


def _told(stacks: dict[str, traceback.StackSummary]) -> str:
    """The innermost frames of each thread, the innermost first."""
    lines = []
    for name, stack in stacks.items():
        lines.append(f"thread {name}:")
        lines += [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in stack[-_NUM_FRAMES:][::-1]]
    return "\n".join(lines)
