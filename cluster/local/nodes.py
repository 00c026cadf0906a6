"""The nodes of a local cluster as processes: started, waited for, found again, and ended."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from cluster.local.state import LocalCluster, Node
from llmcore.errors import RunError

__all__ = ["TooSlowError", "await_ready", "command", "end", "environment_of", "is_alive", "processes", "start"]

OBJECT_STORE_BYTES = 200_000_000
"""Of each node: tests and trials move little."""
_AS_HOST = (
    'echo "$0" >/proc/sys/kernel/hostname && mount --bind "$1" /etc/hosts && '
    '{ [ ! -e /etc/resolv.conf ] || mount --bind "$2" /etc/resolv.conf; } && shift 2 && "$@"; exit $?'
)
"""With a host name of its own, which can be looked up. Not `exec`: the shell buries what has no parent, as an init."""
_LONGEST_HOST = 64
_MARK = "LLMCORE_CLUSTER_NODE"
"""In the environment of all that a node starts: the folder of its files. A process is told by it for as long as it
lives, whoever has become its parent."""
_READY = "Ray runtime started"
_TOO_SLOW = "timed out during startup"
_LAST_LINES = 12
_OF_OTHERS = {"RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_TMPDIR", "RAY_JOB_CONFIG_JSON_ENV_VAR"}
_OF_OTHERS |= {"LLMCORE_LOCAL_RAY", "LLMCORE_WARM_START"}
"""What would lead a node to another cluster."""
_QUIET_SWEEPS = 3
"""Sweeps in a row that find nothing before all count as ended: a process may be starting while its parent dies."""
_SWEEP_EVERY_S = 0.1
_ENDED_WITHIN_S = 60.0


def start(cluster: LocalCluster, node: Node, environment: Mapping[str, str] | None = None) -> None:
    """Start a node; `await_ready` says when it is there. It goes on when this process has ended.

    Its environment is this process's, or the one given: what a job needs to reach its storage is in there.
    """
    node.temp_dir.mkdir(mode=0o700, exist_ok=True)
    if node.namespace is not None:
        _write_hosts(cluster)
    with node.log.open("wb") as log:
        process = subprocess.Popen(
            command(cluster, node),
            cwd=node.temp_dir,
            env=environment_of(cluster, node, os.environ if environment is None else environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # what is sent to this process's group is not for the node
        )
    since = psutil.Process(process.pid).create_time()  # also where it has ended by now: it is not waited for
    node.pid_file.write_text(f"{process.pid} {since}", encoding="utf-8")


def command(cluster: LocalCluster, node: Node) -> list[str]:
    """What starts the node; the token is not in it."""
    options: dict[str, str | int] = {
        "node-ip-address": node.address,
        "node-name": node.name,
        "num-cpus": node.num_cpus,
        "temp-dir": str(node.temp_dir),
        "object-store-memory": OBJECT_STORE_BYTES,
        "metrics-export-port": node.ports["metrics"],
        "dashboard-agent-listen-port": node.ports["agent"],
        "min-worker-port": 0,  # any that is free: another cluster may be on the usual ones
        "max-worker-port": 0,
    }
    if node.labels:
        options["labels"] = ",".join(f"{key}={value}" for key, value in node.labels.items())
    if node is cluster.head:
        options |= {
            "port": node.ports["gcs"],
            "dashboard-host": node.address,
            "dashboard-port": node.ports["dashboard"],
            "include-dashboard": "true",
            "ray-client-server-port": node.ports["client"],
        }
    else:
        options["address"] = cluster.address
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *(["--head"] if "port" in options else [])]
    inside = []
    if node.namespace is not None:
        # With processes of its own too: Ray looks for "the raylet of this host" among all that it sees.
        alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts"]
        named = ["sh", "-c", _AS_HOST, _host(cluster, node), str(_hosts_file(cluster)), str(_resolver_file(cluster))]
        inside = ["nsenter", f"--net=/run/netns/{node.namespace}", *alone, *named]
    return [*inside, *ray, *(f"--{name}={value}" for name, value in options.items())]


def environment_of(cluster: LocalCluster, node: Node, outer: Mapping[str, str]) -> dict[str, str]:
    """What the node has in its environment, made from the one outside."""
    beside = str(Path(sys.executable).parent)  # so that `python` in an entrypoint is this Python
    return {
        **{name: value for name, value in outer.items() if name not in _OF_OTHERS},
        "PATH": f"{beside}{os.pathsep}{outer.get('PATH', os.defpath)}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(cluster.token_file),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "SPT_NOENV": "1",  # Ray's workers write their titles over their environment, but for this
        _MARK: str(node.temp_dir),
    }


class TooSlowError(RunError):
    """Ray gave up on a node that had not come up within its own bound of 30 s."""


def await_ready(node: Node, deadline: float) -> None:
    """Wait until the node is part of the cluster; raises RunError where it ends before, or is not by the deadline.

    The deadline is of the monotonic clock.
    """
    while _READY not in (said := node.log.read_text(encoding="utf-8", errors="replace")):
        last = "\n".join(said.strip().splitlines()[-_LAST_LINES:])
        if not is_alive(node):
            kind = TooSlowError if _TOO_SLOW in said else RunError
            raise kind(f"node {node.name} ended before it was ready; it said:\n{last}")
        if time.monotonic() > deadline:
            raise RunError(f"node {node.name} was not ready in time; it said:\n{last}")
        time.sleep(0.1)


def is_alive(node: Node) -> bool:
    """Whether the node's first process runs: when it ends, as when a part of the node fails, the node is lost."""
    with suppress(psutil.Error, FileNotFoundError, ValueError):
        pid, since = node.pid_file.read_text(encoding="utf-8").split()
        process = psutil.Process(int(pid))
        return process.create_time() == float(since) and process.status() != psutil.STATUS_ZOMBIE
    return False


def processes(folder: Path) -> list[psutil.Process]:
    """All living processes of a node, told by its folder, or of a cluster, by the folder that those lie in.

    With what they have started, which may have emptied its environment.
    """
    seen: dict[int, psutil.Process] = {}
    parents: dict[int, int] = {}
    members: set[int] = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # gone meanwhile, or another user's
            if process.status() == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
                continue
            seen[process.pid], parents[process.pid] = process, process.ppid()
            mark = _mark(process)
            if mark is not None and folder in (Path(mark), Path(mark).parent):
                members.add(process.pid)
    while more := {pid for pid, parent in parents.items() if parent in members and pid not in members}:
        members |= more
    return [seen[pid] for pid in members]


def end(folder: Path) -> int:
    """Kill all processes of a node or a cluster at once, as when its power fails, until there are none; how many.

    Raises RunError for what cannot be killed.
    """
    num_ended, quiet, deadline = 0, 0, time.monotonic() + _ENDED_WITHIN_S
    while quiet < _QUIET_SWEEPS:
        found = processes(folder)
        for process in found:
            with suppress(psutil.Error):
                process.suspend()  # none of them shall see another die, and act on it
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=5)
        num_ended += len(found)
        quiet = 0 if found else quiet + 1
        if found and time.monotonic() > deadline:
            raise RunError(f"processes {[process.pid for process in found]} of {folder} cannot be killed")
        time.sleep(_SWEEP_EVERY_S)
    return num_ended


def _host(cluster: LocalCluster, node: Node) -> str:
    return f"{cluster.name}-{node.name}"[-_LONGEST_HOST:]


def _hosts_file(cluster: LocalCluster) -> Path:
    return cluster.temp_dir / "hosts"


def _resolver_file(cluster: LocalCluster) -> Path:
    return cluster.temp_dir / "resolv.conf"


def _write_hosts(cluster: LocalCluster) -> None:
    """What nodes with names of their own know of names: what this machine knows, and each other."""
    lines = [f"{node.address} {_host(cluster, node)}" for node in cluster.nodes]
    known = Path("/etc/hosts")
    told = known.read_text(encoding="utf-8") if known.exists() else ""
    # There is no name server in their network; one outside would be asked in vain, for ten seconds each time.
    _resolver_file(cluster).write_text("options timeout:1 attempts:1\n", encoding="utf-8")
    _hosts_file(cluster).write_text("\n".join([told.rstrip("\n"), *lines, ""]), encoding="utf-8")


def _mark(process: psutil.Process) -> str | None:
    return process.environ().get(_MARK)
