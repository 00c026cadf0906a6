"""What SIGTERM and Ctrl-C do: they end a job, or ask training to stop first."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["interrupt_on_sigterm", "stop_first"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_TOGETHER_S = 0.5
"""Signals so near to each other are one: `ray job stop` sends it to a stage, and to the pipeline that passes it on."""


def interrupt_on_sigterm() -> list[str]:
    """From now on SIGTERM raises KeyboardInterrupt; returns the list that its name is put into when it comes.

    No error of ours is raised, nor one that names the signal: while Ray waits for a result, a bare KeyboardInterrupt is
    all that it passes on. Outside the main thread, which alone is told of signals, nothing is changed.
    """
    received: list[str] = []
    last_s = float("-inf")

    def interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal last_s
        before_s, last_s = last_s, time.monotonic()
        if last_s - before_s >= _TOGETHER_S:
            received.append(signal.Signals(signum).name)
            raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)
    return received


@contextmanager
def stop_first(ask: Callable[[str], None], grace_s: float) -> Iterator[None]:
    """Within the block the first SIGTERM or Ctrl-C asks; the second, or the end of the grace, does what it did before.

    `ask` is called with the signal's name, in a thread: a handler may have interrupted anything. Without a grace, or
    outside the main thread, nothing is changed.
    """
    main = threading.main_thread()
    if grace_s <= 0 or threading.current_thread() is not main:
        yield
        return
    before: dict[int, Any] = {signum: signal.getsignal(signum) for signum in _SIGNALS}
    over = threading.Event()

    together_s = min(_TOGETHER_S, grace_s)

    def restore() -> None:
        for signum, handler in before.items():
            signal.signal(signum, handler)

    def handle_with(handler: Callable[[int, FrameType | None], None]) -> None:
        for signum in _SIGNALS:
            signal.signal(signum, handler)

    def ask_and_wait(signum: int) -> None:
        try:
            ask(signal.Signals(signum).name)
        finally:
            if not over.wait(grace_s):
                signal.pthread_kill(main.ident or 0, signum)

    def first(signum: int, frame: FrameType | None) -> None:
        first_s = time.monotonic()

        def second(signum: int, frame: FrameType | None) -> None:
            if time.monotonic() - first_s >= together_s:
                restore()
                signal.raise_signal(signum)

        handle_with(second)
        threading.Thread(target=ask_and_wait, args=(signum,), daemon=True, name="grace").start()

    handle_with(first)
    try:
        yield
    finally:
        over.set()
        restore()
