"""A process of this test's own Ray is killed while it works, and never another test's."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

__all__ = ["first_killed"]


@contextmanager
def first_killed(method: str) -> Iterator[list[int]]:
    """Meanwhile the first process that is seen at work on a method, `_Scorer.predict` say, is killed; gives its id.

    Ray gives workers the title of what they do, and is a child of the process that started it.
    """
    killed: list[int] = []
    ended = threading.Event()

    def watch() -> None:
        while not killed and not ended.wait(0.02):
            for process in _at_work(method)[:1]:
                os.kill(process, signal.SIGKILL)
                killed.append(process)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield killed
    finally:
        ended.set()
        watching.join()


def _at_work(method: str) -> list[int]:
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if method in " ".join(process.cmdline()):
                found.append(process.pid)
    return found
