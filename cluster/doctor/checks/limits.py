"""How many files and processes the system lets a node's Ray have."""

import resource
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cluster.doctor.check import Check
from cluster.doctor.finding import Finding
from cluster.doctor.node import Node
from cluster.doctor.patient import Patient
from cluster.doctor.raylet import open_files_of_raylet

__all__ = ["CHECK", "Limits", "examine", "judge", "look"]

_NAME = "limits"
_FILES = 8192
"""What Ray itself recommends at the least."""
_PROCESSES, _PROCESSES_GOOD = 1024, 4096
"""A worker of Ray with torch has some sixty threads, and each counts."""
_PIDS_MAX = (Path("/sys/fs/cgroup/pids.max"), Path("/sys/fs/cgroup/pids/pids.max"))
_FILES_FIX = (
    "raise it before Ray starts: `ulimit -n 65536` in the script, LimitNOFILE= of a systemd unit, "
    "docker run --ulimit nofile=65536:65536, `sbatch --propagate=NONE` on Slurm"
)
_PROCESSES_FIX = (
    "raise it before Ray starts: `ulimit -u unlimited`, TasksMax= of a systemd unit, docker run --pids-limit=-1, "
    "podPidsLimit of the kubelet"
)


@dataclass(frozen=True)
class Limits:
    """How many files a process may hold open, and processes and threads there may be; None without a limit."""

    files: int | None
    processes: int | None


def look() -> Limits:
    """The limits of this node: the lower of a worker's, which Ray raises as far as it may, and the raylet's."""
    files = [_finite(resource.getrlimit(resource.RLIMIT_NOFILE)[0]), _finite(open_files_of_raylet())]
    processes = [_finite(resource.getrlimit(resource.RLIMIT_NPROC)[0]), *map(_of_cgroup, _PIDS_MAX)]
    return Limits(_lowest(files), _lowest(processes))


def _finite(limit: int | None) -> int | None:
    return None if limit == resource.RLIM_INFINITY else limit


def _of_cgroup(path: Path) -> int | None:
    """What a container's cgroup allows; `max` is no limit."""
    text = path.read_text().strip() if path.is_file() else "max"
    return None if text == "max" else int(text)


def _lowest(limits: Iterable[int | None]) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def examine(patient: Patient) -> list[Finding]:
    """See `judge`."""
    seen, findings = patient.look(_NAME, look)
    return findings + [finding for node, limits in seen.items() for finding in judge(node, limits)]


def judge(node: Node, limits: Limits) -> Iterable[Finding]:
    """Holds the limits against the bounds."""
    files, processes = limits.files, limits.processes
    if files is not None and files < _FILES:
        seen = f"a process may hold {files} files open, fewer than {_FILES}"
        yield Finding(_NAME, "error", node.name, seen, _FILES_FIX)
    if processes is not None and processes < _PROCESSES_GOOD:
        fewer = _PROCESSES if processes < _PROCESSES else _PROCESSES_GOOD
        seen = f"there may be {processes} processes and threads, fewer than {fewer}"
        yield Finding(_NAME, "error" if processes < _PROCESSES else "warning", node.name, seen, _PROCESSES_FIX)
    elif files is None or files >= _FILES:
        told = f"{files or 'any number of'} open files, {processes or 'any number of'} processes and threads"
        yield Finding(_NAME, "ok", node.name, told)


CHECK = Check(
    _NAME,
    f"Open files: {_FILES} (error); processes and threads: {_PROCESSES} (error), {_PROCESSES_GOOD} (warning)",
    examine,
)
