"""SIGTERM ends a job as Ctrl-C does."""

import signal
import threading
from types import FrameType

__all__ = ["interrupt_on_sigterm"]


def interrupt_on_sigterm() -> list[str]:
    """From now on SIGTERM raises KeyboardInterrupt; returns the list that its name is put into when it comes.

    No error of ours is raised, nor one that names the signal: while Ray waits for a result, a bare KeyboardInterrupt is
    all that it passes on. Outside the main thread, which alone is told of signals, nothing is changed.
    """
    received: list[str] = []

    def interrupt(signum: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(signum).name)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)
    return received
