"""Outlives a driver for a moment, to end what a local Ray leaves behind.

Ray's own processes follow a driver that was killed, but not all: two of the raylet's agents first wait for a server
that is dead. A guardian is a small process of its own session that holds one end of a pipe; when the driver goes,
however it goes, the pipe closes, and the guardian kills whatever still belongs to the Ray session that the driver
started.
"""

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import psutil

__all__ = ["Guardian", "Target"]

_SWEEP_EVERY_S = 0.5
_QUIET_SWEEPS = 3
"""Sweeps in a row that find nothing before the guardian leaves: a process may be starting while its parent dies."""
_SESSION = re.compile(r"/(session_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_\d+_(\d+))(?=[/\s]|$)")


class Guardian:
    """The driver's side: to be made before `ray.init`, and to be let go after `ray.shutdown`."""

    def __init__(self) -> None:
        self._told = False
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(os.getpid())],  # -P: no module here may be taken for another's
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what is sent to the driver's group is not for the guardian
        )

    def watch(self, session: str) -> None:
        """Name the Ray session: from now on no other is touched, not even a later one of this process."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{session}\n".encode())
        self._process.stdin.flush()
        self._told = True

    def let_go(self) -> None:
        """Let the guardian look once more and leave; it is waited for when it does not know what to look for."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if not self._told:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10)


@dataclass(frozen=True)
class Target:
    """Which Ray session to end: the named one, or else any that the driver started since then."""

    driver: int
    earliest: str
    session: str | None = None

    @classmethod
    def of(cls, driver: int, since: datetime) -> "Target":
        """Sessions of the driver that begin at `since` or later, its process number having been used before."""
        return cls(driver, f"session_{since:%Y-%m-%d_%H-%M-%S_%f}")

    def owns(self, text: str) -> bool:
        """Whether a path or a command names a folder of the session."""
        if self.session is not None:
            return any(name == self.session for name, _ in _SESSION.findall(text))
        return any(int(pid) == self.driver and name >= self.earliest for name, pid in _SESSION.findall(text))


def _guard(driver: int) -> None:
    target = Target.of(driver, datetime.now() - timedelta(seconds=5))
    while os.getppid() == driver:
        if select.select([sys.stdin], [], [], 1.0)[0]:
            line = sys.stdin.readline()
            if not line:
                break
            target = replace(target, session=line.strip())
    quiet_sweeps = 0
    while quiet_sweeps < _QUIET_SWEEPS:
        quiet_sweeps += 1
        for process in _members(target):
            with suppress(psutil.Error):
                process.kill()
                quiet_sweeps = 0
        time.sleep(_SWEEP_EVERY_S)


def _members(target: Target) -> Iterator[psutil.Process]:
    """The living processes of the session: their command, or a file they hold open, lies in its folder."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # gone meanwhile, or another user's
            if process.pid in (os.getpid(), target.driver) or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if any(map(target.owns, _traces(process))):
                yield process


def _traces(process: psutil.Process) -> Iterator[str]:
    yield " ".join(process.cmdline())
    yield from (file.path for file in process.open_files())


if __name__ == "__main__":
    _guard(int(sys.argv[1]))
