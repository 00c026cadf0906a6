"""The doctor on real clusters: green on a good one, and it finds each of ten planted faults.

All are planted for real, in nodes of their own network, mounts, limits and environment: a package of another version
before the right one on the path, a read-only mount of the storage, a disk of a few megabytes that is full, a small
/dev/shm, a limit on open files, a PATH without compilers beside a DeepSpeed without its built operation, a port that a
firewall closes, no authentication, and a GPU that nobody has. The clock alone is not: a machine has one, so a node's
Python is told another time (under libfaketime `ray start` dies of a sleep).
"""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from cluster import local
from cluster.local import nodes
from cluster.local.network import why_no_namespaces
from cluster.local.state import LocalCluster, Node
from tests.clusters import local_cluster
from tests.drivers import ROOT, environment, run

pytestmark = pytest.mark.timeout(900)
needs_nodes = pytest.mark.skipif(why_no_namespaces() is not None, reason=str(why_no_namespaces()))
needs_firewall = pytest.mark.skipif(shutil.which("nft") is None, reason="apt-get install nftables")
_FAST_LOSS = {"RAY_health_check_period_ms": "500", "RAY_health_check_timeout_ms": "1000"}
_CLOSED = 7777
_COMPILER = re.compile(r"(.*-)?(c\+\+|g\+\+|clang\+\+)(-[\d.]+)?")


@dataclass(frozen=True)
class Told:
    """What the doctor said."""

    code: int
    seconds: float
    """Of the whole command, with its start and its imports."""
    report: dict[str, Any]

    def of(self, severity: str) -> dict[tuple[str, str], str]:
        """What was seen, by check and place."""
        found = [finding for finding in self.report["findings"] if finding["severity"] == severity]
        return {(finding["check"], finding["where"]): finding["seen"] for finding in found}


def doctor(folder: Path, *arguments: str, **added: str) -> Told:
    command = [sys.executable, "-m", "cluster", "doctor", *arguments, "--json"]
    ended = run(command, cwd=folder, env=environment(**added), timeout_s=300)
    assert ended.out, ended.err
    return Told(ended.code, ended.seconds, json.loads(ended.out))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three nodes, and a folder for each test's storage."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        made = local.up("doctor", cpus_per_node=1, environment=environment(**_FAST_LOSS))
        yield made
        local.down("doctor")


@needs_nodes
def test_a_good_cluster_is_green_within_a_minute(cluster: LocalCluster, tmp_path: Path) -> None:
    told = doctor(tmp_path, "doctor", "--storage", str(tmp_path / "runs"))
    print(f"green after {told.seconds:.1f} s, {told.report['seconds']} s of it examining three nodes")
    assert told.of("error") == told.of("warning") == told.of("unknown") == {}
    assert told.code == 0 and told.report["nodes"] == ["head", "worker-1", "worker-2"]
    assert {finding["check"] for finding in told.report["findings"]} >= {"storage", "process groups", "ZeRO step"}
    assert told.seconds < 60
    assert list((tmp_path / "runs").iterdir()) == []  # nothing of it stays


@pytest.mark.proof
@pytest.mark.proof_cluster
@needs_nodes
def test_from_elsewhere_it_runs_as_a_job(cluster: LocalCluster, tmp_path: Path) -> None:
    """By the dashboard's address alone, as from a laptop."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(cluster.token_file)}
    command = [sys.executable, "-m", "cluster", "doctor", cluster.dashboard, "--gpus=1"]
    ended = run(command, cwd=tmp_path, env=environment(**token), timeout_s=300)
    assert ended.code == 1, ended.err
    assert re.search(r"^error +GPUs +cluster +1 GPUs are asked for, the cluster has 0$", ended.out, re.MULTILINE)
    assert re.search(r"^(ok|warning) +ZeRO step +head and worker-1 +2 workers", ended.out, re.MULTILINE)
    assert "3 nodes" in ended.out.splitlines()[-1] and ": 1 error, 1 unknown, " in ended.out.splitlines()[-1]


@needs_nodes
@needs_firewall
def test_planted_faults_are_found_where_they_are_and_nowhere_else(cluster: LocalCluster, tmp_path: Path) -> None:
    first, second = cluster.nodes[1:]
    storage = tmp_path / "runs"
    storage.mkdir()
    full = first.temp_dir
    restart_sick(
        cluster,
        first,
        "ulimit -n 1000",
        f"mount --bind {storage} {storage} && mount -o remount,bind,ro {storage}",
        f"mount -t tmpfs -o size=64m tmpfs {full} && head -c 50000000 /dev/zero >{full}/filled",
    )
    shadows = (other_transformers(tmp_path), deepspeed_without_operation(tmp_path), clock_ahead(tmp_path, 300), ROOT)
    restart_sick(
        cluster,
        second,
        "mount -t tmpfs -o size=32m tmpfs /dev/shm",
        options=[f"--object-manager-port={_CLOSED}"],
        PATH=path_without_compilers(tmp_path),
        PYTHONPATH=":".join(map(str, shadows)),
    )
    close_port(second, _CLOSED)

    told = doctor(tmp_path, "doctor", "--storage", str(storage), "--gpus", "1")
    errors = told.of("error")
    print(f"found after {told.seconds:.1f} s: {json.dumps([*errors.items()], indent=1)}")
    assert errors.keys() == {
        ("limits", "worker-1"),
        ("storage", "worker-1"),
        ("disk", "worker-1"),
        ("versions", "worker-2"),
        ("compilers", "worker-2"),
        ("shared memory", "worker-2"),
        ("clocks", "worker-2"),
        ("ports", "worker-2"),
        ("GPUs", "cluster"),
    }
    assert "1000 files open" in errors["limits", "worker-1"]
    assert "Read-only file system" in errors["storage", "worker-1"]
    assert "Ray's temporary folder" in errors["disk", "worker-1"] and "less than 1 GiB" in errors["disk", "worker-1"]
    assert errors["versions", "worker-2"].startswith("transformers is 4.0.0, the driver's 5.")
    assert "no C++ compiler" in errors["compilers", "worker-2"]
    assert errors["shared memory", "worker-2"].startswith("/dev/shm has 32 MiB, and the object store")
    assert re.match(r"(299\.\d|300\.\d)\d\d s ahead of", errors["clocks", "worker-2"])
    assert f"port {_CLOSED} (object manager) of worker-2" in errors["ports", "worker-2"]
    assert errors["GPUs", "cluster"] == "1 GPUs are asked for, the cluster has 0"
    assert told.code == 1


def test_a_cluster_that_asks_for_no_token_is_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a token that all can read. An only node is examined like any other: two workers of its own meet and train."""
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("nobody asks for it")
    token.chmod(0o644)
    monkeypatch.setenv("HOME", str(tmp_path))
    with local_cluster(1, dashboard=True) as open_to_all:
        told = doctor(tmp_path, open_to_all.address, RAY_AUTH_MODE="disabled")
    seen = [finding["seen"] for finding in told.report["findings"] if finding["severity"] == "error"]
    assert told.code == 1
    assert [door.rpartition(" (")[0] for door in seen[:4]] == [
        f"a request to {door} with{how} token is answered"
        for how in ("out a", " a wrong")
        for door in ("the Jobs API", "the control service")
    ]
    readable = f"the token's file {token} has mode 0644: others than its owner read it"
    assert seen[4:] == [readable, readable], "the driver's, and the node's"
    assert {"process groups", "ZeRO step"} <= {check for check, _ in {**told.of("ok"), **told.of("warning")}}


def test_a_cluster_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cluster", "doctor", "127.0.0.1:1"]
    ended = run(command, cwd=tmp_path, env=environment(), timeout_s=100)
    assert (ended.code, ended.out) == (2, "") and ended.err.startswith("error: cluster '127.0.0.1:1': no Ray cluster")


# --- How faults are planted.


def restart_sick(
    cluster: LocalCluster, node: Node, *before: str, options: list[str] | None = None, **changed: str
) -> None:
    """End a node, and start it again after some shell commands in mounts of its own, with another environment."""
    local.lose(node)
    plain = nodes.command
    sick = ["unshare", "--mount", "sh", "-ec", "\n".join([*before, 'exec "$@"']), "sh"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nodes, "command", lambda cluster, node: [*sick, *plain(cluster, node), *(options or [])])
        nodes.start(cluster, node, environment(**changed))
    nodes.await_ready(node, time.monotonic() + 120)


def close_port(node: Node, port: int) -> None:
    """A firewall in the node's network drops what comes to the port."""
    rules = ("add table inet doctor", "add chain inet doctor in { type filter hook input priority 0; }")
    rules += (f"add rule inet doctor in tcp dport {port} drop",)
    subprocess.run(
        ["ip", "netns", "exec", str(node.namespace), "nft", "-f", "-"], input="\n".join(rules), text=True, check=True
    )


def other_transformers(folder: Path) -> Path:
    """A folder with a package of that name and of an old version."""
    place = folder / "other"
    for name, file, text in (
        ("transformers", "__init__.py", '__version__ = "4.0.0"\n'),
        ("transformers-4.0.0.dist-info", "METADATA", "Metadata-Version: 2.1\nName: transformers\nVersion: 4.0.0\n"),
    ):
        (place / name).mkdir(parents=True)
        (place / name / file).write_text(text)
    return place


def clock_ahead(folder: Path, seconds: float) -> Path:
    """A folder whose `sitecustomize` has Python's clock go ahead."""
    place = folder / "clock"
    place.mkdir()
    told = f"import time\n\n_true = time.time\ntime.time = lambda: _true() + {seconds}\n"
    (place / "sitecustomize.py").write_text(told)
    return place


def deepspeed_without_operation(folder: Path) -> Path:
    """A folder with DeepSpeed as it is here, but for the operation that was compiled when it was installed."""
    spec = find_spec("deepspeed")
    assert spec is not None and spec.origin is not None
    place = folder / "unbuilt"
    shutil.copytree(Path(spec.origin).parent, place / "deepspeed", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return place


def path_without_compilers(folder: Path) -> str:
    """A PATH that leads to all that this one leads to, but for C++ compilers."""
    place = folder / "bin"
    place.mkdir()
    for folder_on_path in environment()["PATH"].split(":"):
        for program in Path(folder_on_path).glob("*"):
            if not _COMPILER.fullmatch(program.name) and not (place / program.name).exists():
                (place / program.name).symlink_to(program)
    return str(place)
