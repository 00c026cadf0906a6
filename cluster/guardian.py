"""Outlives a driver for a moment, to end what a local Ray leaves behind.

Ray's own processes follow a driver that was killed, but not all: two of the raylet's agents first wait for a server
that is dead. A guardian is a small process of its own session that holds one end of a pipe; when the driver goes,
however it goes, the pipe closes, and the guardian kills whatever still belongs to the Ray session that the driver
started.
"""

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import psutil

__all__ = ["start_guardian"]

_SWEEP_EVERY_S = 0.5
_QUIET_SWEEPS = 3
"""Sweeps in a row that find nothing before the guardian leaves: a process may be starting while its parent dies."""


def start_guardian() -> "subprocess.Popen[bytes]":
    """Start the guardian of this process, before `ray.init`; it needs no more care, and goes when this process goes."""
    # -P: or this folder's modules could be taken for others of the same name.
    return subprocess.Popen(
        [sys.executable, "-P", __file__, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # what is sent to the driver's group is not for the guardian
    )


def session_prefix(now: datetime) -> str:
    """How the name of a Ray session that is started at this time begins; names sort by time."""
    return f"session_{now:%Y-%m-%d_%H-%M-%S_%f}"


def belongs(text: str, driver: int, earliest: str) -> bool:
    """Whether a path or command names the session of this driver, and not an older one of the same process number."""
    _, found, rest = text.partition("/session_")
    name = f"session_{rest.partition('/')[0].partition(' ')[0]}"
    return bool(found) and name.endswith(f"_{driver}") and name >= earliest


def _guard(driver: int) -> None:
    earliest = session_prefix(datetime.now() - timedelta(seconds=5))
    while os.getppid() == driver and not select.select([sys.stdin], [], [], 1.0)[0]:
        pass
    quiet_sweeps = 0
    while quiet_sweeps < _QUIET_SWEEPS:
        quiet_sweeps += 1
        for process in _members(driver, earliest):
            try:
                process.kill()
                quiet_sweeps = 0
            except psutil.Error:
                continue
        time.sleep(_SWEEP_EVERY_S)


def _members(driver: int, earliest: str) -> Iterator[psutil.Process]:
    """The living processes of the session: their command, or a file they hold open, lies in its folder."""
    for process in psutil.process_iter():
        try:
            if process.pid in (os.getpid(), driver) or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if any(belongs(text, driver, earliest) for text in _traces(process)):
                yield process
        except psutil.Error:  # gone meanwhile, or another user's
            continue


def _traces(process: psutil.Process) -> Iterator[str]:
    yield " ".join(process.cmdline())
    yield from (file.path for file in process.open_files())


if __name__ == "__main__":
    _guard(int(sys.argv[1]))
