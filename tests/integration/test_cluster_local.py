"""A real cluster of three nodes on this machine: it computes on each, refuses strangers, loses nodes, leaves none."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster import local
from cluster.local import nodes
from cluster.local.network import why_no_namespaces
from cluster.local.state import LocalCluster
from llmcore.errors import ConfigError
from tests.drivers import Ended, environment, run

pytestmark = pytest.mark.timeout(900)
needs_namespaces = pytest.mark.skipif(why_no_namespaces() is not None, reason=str(why_no_namespaces()))
ALL = {"head", "worker-1", "worker-2"}
LABELS = {"worker-1": {"market": "spot"}}
FAST_LOSS = {"RAY_health_check_period_ms": "500", "RAY_health_check_timeout_ms": "3000"}
"""Of the head: a node that does not answer is lost after some seconds."""

DRIVER = """
import json, os, socket, sys, time
import ray

def here():
    links = sorted(name for _, name in socket.if_nameindex())
    processes = len([name for name in os.listdir("/proc") if name.isdigit()])
    return {"address": ray.util.get_node_ip_address(), "links": links, "processes": processes,
            "host": socket.gethostname(), "found as": socket.gethostbyname(socket.gethostname())}

def echo(value):
    return value

ray.init(address="auto", logging_level="ERROR", log_to_driver=False)
wanted, until = set(sys.argv[1:]), time.monotonic() + 60  # the head learns of a lost node after some seconds
while {node["NodeName"] for node in ray.nodes() if node["Alive"]} != wanted and time.monotonic() < until:
    time.sleep(0.1)
alive = {node["NodeName"]: node for node in ray.nodes() if node["Alive"]}
found = {}
for name, node in alive.items():
    there = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    told = ray.get(ray.remote(here).options(scheduling_strategy=there, num_cpus=0.1).remote())
    moved = ray.get(ray.remote(echo).options(scheduling_strategy=there, num_cpus=0.1).remote(ray.put(bytes(1 << 20))))
    found[name] = {**told, "moved": len(moved), "labels": node["Labels"], "cpus": node["Resources"].get("CPU")}
print(json.dumps(found))
"""


@pytest.fixture(scope="module", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where these tests' clusters are written down."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def three(state_home: Path) -> Iterator[LocalCluster]:
    """Three nodes, the workers with networks of their own where that can be had."""
    cluster = local.up("three", cpus_per_node=1, labels=LABELS, environment=environment(**FAST_LOSS))
    yield cluster
    assert local.down("three") is not None
    assert left_of(cluster) == []


def left_of(cluster: LocalCluster) -> list[str]:
    """What of a cluster is still there: processes, links, namespaces, folders."""
    left = [f"process {process.pid} {process.name()}" for process in nodes.processes(cluster.temp_dir)]
    for process in psutil.process_iter():  # by other signs than those that `down` goes by
        try:
            told = [*process.cmdline(), process.cwd(), *(file.path for file in process.open_files())]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(cluster.temp_dir) in text for text in told):
            left.append(f"process {process.pid} {told[:3]}")
    left += [str(path) for path in (cluster.temp_dir, cluster.folder) if path.exists()]
    if cluster.network is not None:
        for command in (["ip", "-brief", "link"], ["ip", "netns"]):
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            left += [line for line in said.splitlines() if cluster.network.bridge in line]
    return left


def driver(cluster: LocalCluster, wanted: set[str]) -> dict[str, Any]:
    """What a driver on this machine finds on each node of a cluster, once the nodes it has are those wanted."""
    told = environment(**cluster.environment)
    ended = run([sys.executable, "-c", DRIVER, *wanted], cwd=Path("/"), env=told, timeout_s=120)
    assert ended.code == 0, ended.out + ended.err
    found = dict(json.loads(ended.out.splitlines()[-1]))
    assert set(found) == wanted
    return found


def command(*arguments: str, **added: str) -> Ended:
    """`python -m cluster …`, to its end."""
    whole = [sys.executable, "-m", "cluster", *arguments]
    return run(whole, cwd=Path("/"), env=environment(**added), timeout_s=300)


def answer(url: str, token: str | None) -> int:
    """The status of the answer to a request."""
    request = urllib.request.Request(url, headers={} if token is None else {"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as found:
            return int(found.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_tasks_run_on_each_node_and_objects_move_between_them(three: LocalCluster) -> None:
    found = driver(three, ALL)
    assert {name: node["address"] for name, node in found.items()} == {node.name: node.address for node in three.nodes}
    assert all(node["moved"] == 1 << 20 and node["cpus"] == 1 for node in found.values())
    assert found["worker-1"]["labels"]["market"] == "spot" and "market" not in found["worker-2"]["labels"]
    if three.network is not None:
        assert found["worker-1"]["links"] == ["eth0", "lo"] and three.network.bridge in found["head"]["links"]
        assert (found["worker-1"]["host"], found["worker-1"]["found as"]) == ("three-worker-1", three.nodes[1].address)
        assert found["worker-1"]["processes"] < 50 < len(psutil.pids()), "it sees its own processes alone"


@pytest.mark.parametrize("path", ["/api/jobs/", "/api/version", "/nodes?view=summary", "/api/v0/nodes", "/"])
def test_a_request_without_the_token_or_with_another_is_refused(three: LocalCluster, path: str) -> None:
    right = three.token_file.read_text()
    told = {"none": answer(three.dashboard + path, None), "wrong": answer(three.dashboard + path, right[::-1])}
    if path == "/":  # the page itself, which has nothing of the cluster in it and asks for the token
        assert set(told.values()) == {200}
    else:
        assert set(told.values()) <= {401, 403}, told
        assert answer(three.dashboard + path, right) == 200


def test_a_job_cannot_be_submitted_without_the_token(three: LocalCluster, tmp_path: Path) -> None:
    made = tmp_path / "made"
    body = json.dumps({"entrypoint": f"touch {made}"}).encode()
    for token in (None, "0" * 64):
        request = urllib.request.Request(f"{three.dashboard}/api/jobs/", data=body, method="POST")
        request.add_header("Content-Type", "application/json")
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        assert refused.value.code in (401, 403)
    time.sleep(2.0)
    assert not made.exists()


def test_a_driver_without_the_token_is_refused(three: LocalCluster) -> None:
    told = {**environment(), **three.environment, "RAY_AUTH_TOKEN": "0" * 64}
    ended = run([sys.executable, "-m", "cluster", "resources"], cwd=Path("/"), env=told, timeout_s=120)
    assert ended.code == 2 and "asks for its token and got none or another" in ended.err, ended.err


def test_the_token_is_in_a_file_of_its_owner_and_nowhere_else(three: LocalCluster) -> None:
    token = three.token_file.read_text()
    assert stat.S_IMODE(three.token_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(three.folder.stat().st_mode) == stat.S_IMODE(three.temp_dir.stat().st_mode) == 0o700
    for process in nodes.processes(three.temp_dir):
        assert not any(token in text for text in process.cmdline())
    for file in [*three.temp_dir.rglob("*"), *three.folder.rglob("*")]:
        if file.is_file() and file != three.token_file:
            assert token.encode() not in file.read_bytes(), file


def test_the_dashboard_is_on_the_clusters_address_alone(three: LocalCluster) -> None:
    port = three.head.ports["dashboard"]
    listening = {
        connection.laddr.ip
        for process in nodes.processes(three.head.temp_dir)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
    }
    assert listening == {three.head.address}


def test_a_second_up_of_the_name_is_refused_and_takes_nothing_down(three: LocalCluster) -> None:
    ended = command("up", "--name", "three")
    assert ended.code == 2 and "cluster 'three' is up, 3 of 3 nodes" in ended.err, ended.err
    assert all(map(nodes.is_alive, three.nodes))


def test_a_lost_node_is_missed_and_comes_back(three: LocalCluster) -> None:
    lost = three.node("worker-2")
    assert local.lose(lost) > 2
    assert not nodes.is_alive(lost) and not nodes.processes(lost.temp_dir)
    driver(three, {"head", "worker-1"})
    assert local.restore(three, environment(**FAST_LOSS)) == [lost]
    driver(three, ALL)
    assert local.restore(three) == []


@needs_namespaces
def test_a_node_whose_network_was_cut_for_a_moment_is_there_again(three: LocalCluster) -> None:
    node = three.node("worker-1")
    with local.cut(three, node):
        with pytest.raises(OSError, match="timed out"):
            socket.create_connection((node.address, node.ports["agent"]), timeout=1).close()
        assert nodes.is_alive(node)
        with pytest.raises(ConfigError, match="head of cluster 'three' has no network of its own"):
            local.cut(three, three.head).__enter__()
    driver(three, ALL)


def test_a_head_that_was_lost_begins_anew_with_all_nodes(three: LocalCluster) -> None:
    local.lose(three.head)
    assert local.restore(three, environment(**FAST_LOSS)) == list(three.nodes)
    driver(three, ALL)  # at the same address, with the same token


def test_on_loopback_where_there_are_no_namespaces(state_home: Path) -> None:
    ended = command("up", "--name", "loop", "--nodes", "2", "--cpus-per-node", "1", "--no-namespaces")
    assert ended.code == 0, ended.err
    cluster = local.load("loop")
    assert "python -m cluster submit CONFIG --cluster loop" in ended.out and str(cluster.token_file) in ended.out
    assert cluster.token_file.read_text() not in ended.out
    assert cluster.network is None
    driver(cluster, {"head", "worker-1"})
    assert answer(f"{cluster.dashboard}/api/jobs/", None) == 401
    # Whatever is killed meanwhile, `down` takes the rest.
    for pid in (cluster.nodes[1].pid, psutil.Process(cluster.head.pid).children()[0].pid):
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    ended = command("down", "loop")
    assert ended.code == 0 and "2 nodes and all their files are gone" in ended.out, ended.err
    assert left_of(cluster) == []
    assert "there is none" in command("down", "loop").out


@contextmanager
def starting(name: str, *options: str) -> "Iterator[tuple[subprocess.Popen[str], LocalCluster]]":
    """An `up` under way, and the cluster that it means to make."""
    whole = [sys.executable, "-m", "cluster", "up", "--name", name, "--nodes", "2", *options]
    with subprocess.Popen(whole, cwd="/", env=environment(), stderr=subprocess.PIPE, text=True) as process:
        while name not in local.names():
            assert process.poll() is None
            time.sleep(0.001)
        yield process, local.load(name)


@pytest.mark.parametrize("after", ["the state", "the network", "the head"])
def test_down_after_an_up_that_was_killed_half_way(after: str, state_home: Path) -> None:
    with starting("half") as (process, cluster):
        reached = after == "the state"
        while not reached:
            reached = bool(nodes.processes(cluster.temp_dir)) if after == "the head" else cluster.temp_dir.exists()
            assert process.poll() is None
        process.kill()
    assert (state_home / "llmcore/clusters/half").exists()
    assert local.down("half") == cluster
    assert left_of(cluster) == []


def test_an_up_that_fails_takes_down_what_it_made() -> None:
    with starting("fails", "--labels", "worker-1:market=no value of a label") as (process, cluster):
        _, said = process.communicate(timeout=300)
    assert process.returncode == 1 and "worker-1 ended before it was ready" in said, said
    assert left_of(cluster) == []
    assert local.down("fails") is None
