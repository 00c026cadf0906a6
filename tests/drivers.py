"""Starts the command line as a user does, and finds every process that belongs to what was started."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from cluster.connect import Session

__all__ = ["ROOT", "Ended", "end_processes", "environment", "local_ray", "processes_of", "ray_folder", "run"]
__all__ += ["run_jobs", "shared_ray", "start_jobs", "wait_for"]

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Ended:
    """A process that has ended."""

    code: int
    out: str
    err: str
    seconds: float


def environment(**added: str) -> dict[str, str]:
    """The environment of a driver: this one's, with the commands and packages of this checkout first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **added}


def run_jobs(*arguments: str, cwd: Path, timeout_s: float = 1200, **added: str) -> Ended:
    """`python -m jobs …` to its end; `added` goes into its environment."""
    return run([sys.executable, "-m", "jobs", *arguments], cwd=cwd, env=environment(**added), timeout_s=timeout_s)


def run(command: list[str], *, cwd: Path, env: Mapping[str, str], timeout_s: float) -> Ended:
    """A command to its end."""
    started = time.monotonic()
    done = subprocess.run(
        command, check=False, cwd=cwd, env=dict(env), capture_output=True, text=True, timeout=timeout_s
    )
    return Ended(done.returncode, done.stdout, done.stderr, time.monotonic() - started)


def start_jobs(
    *arguments: str, cwd: Path, output: Path, own_session: bool = False, **added: str
) -> "subprocess.Popen[bytes]":
    """`python -m jobs …`, left running; what it prints is appended to a file."""
    with output.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "jobs", *arguments],
            cwd=cwd,
            env=environment(**added),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=own_session,
        )


def wait_for(reached: Callable[[], bool], driver: "subprocess.Popen[Any]", timeout_s: float = 600) -> bool:
    """Whether it was reached before the driver ended; looks every 20 ms."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if reached():
            return True
        if driver.poll() is not None:
            return reached()
        time.sleep(0.02)
    raise TimeoutError(f"not reached within {timeout_s} s, and the driver runs")


@contextmanager
def local_ray() -> "Iterator[Session]":
    """A local Ray with two CPUs, which this process is connected to."""
    from cluster.connect import connect
    from jobs.runtime.console import quiet
    from llmcore.config.common import ClusterSettings

    quiet(verbose=False)
    with connect(ClusterSettings(address="local", num_cpus=2)) as session:
        yield session


_HOST = """
import json, sys
from tests.drivers import local_ray
with local_ray() as session:
    print(json.dumps(session.for_stages), flush=True)
    sys.stdin.read()
"""


@contextmanager
def shared_ray() -> Iterator[dict[str, str]]:
    """A local Ray for commands that would start one each: what they need in their environment to be on it."""
    with ray_folder() as folder:
        host = subprocess.Popen(
            [sys.executable, "-c", _HOST],
            env=environment(RAY_TMPDIR=folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert host.stdin is not None and host.stdout is not None
        yield json.loads(host.stdout.readline())
        host.stdin.close()
        host.wait(60)


@contextmanager
def ray_folder() -> Iterator[str]:
    """A folder for Ray's files that tells its processes from all others; at the end they are killed and it is removed.

    Its path is short: Ray's sockets, whose paths may have 107 bytes, lie in it.
    """
    folder = tempfile.mkdtemp(prefix="llmcore-", dir="/tmp")
    try:
        yield folder
    finally:
        end_processes(folder)
        shutil.rmtree(folder, ignore_errors=True)


def processes_of(folder: str) -> list[psutil.Process]:
    """The living processes that name the folder in their command or environment, or hold a file in it open."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE and _names(process, folder):
                found.append(process)
    return found


def _names(process: psutil.Process, folder: str) -> bool:
    # Ray's workers write their title over their environment, but hold their logs open.
    told = [*process.cmdline(), process.environ().get("RAY_TMPDIR", "")]
    return any(folder in text for text in told) or any(folder in file.path for file in process.open_files())


def end_processes(folder: str) -> None:
    """Kill what belongs to the folder, by process id, until there is nothing more."""
    for _ in range(10):
        found = processes_of(folder)
        if not found:
            return
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=2)
    raise AssertionError(f"{[process.name() for process in processes_of(folder)]} of {folder} cannot be ended")
