"""A local cluster on paper: its addresses, names, commands, and what is written down; and how processes are found."""

import ipaddress
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from cluster.commands.up import down, up
from cluster.local import lifecycle, load, names, nodes
from cluster.local.network import MOST_WORKERS, Network, checked_subnet, free_subnet
from cluster.local.state import LocalCluster, Node, delete_state, held, read_state, write_state, write_token
from llmcore.errors import ConfigError, RunError

LONGEST_INTERFACE = 15
LONGEST_SOCKET = 107
SECRET = "a-secret-of-the-caller"


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No cluster of this machine's user is seen."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state/llmcore/clusters"


def planned(folder: Path, *, workers: int = 2, own_networks: bool = True) -> LocalCluster:
    """A cluster that nobody has made, whose files are to lie in the folder."""
    network = Network("llmc-abcdef", "10.20.30.0/24") if own_networks else None
    temp_dir = folder / "ray"
    made = []
    for number in range(workers + 1):
        of_head = {} if number else {"gcs": 1001, "dashboard": 1002, "client": 1003}
        address = (network.worker(number) if number else network.head) if network else "127.0.0.1"
        made.append(
            Node(
                name=f"worker-{number}" if number else "head",
                address=address,
                namespace=network.namespace(number) if network and number else None,
                num_cpus=2 * number,
                ports={"metrics": 2000 + number, "agent": 3000 + number, **of_head},
                labels={"zone": "a", "market": "spot"} if number == 1 else {},
                temp_dir=temp_dir / (f"worker-{number}" if number else "head"),
            )
        )
    return LocalCluster("made-by-a-test", folder, temp_dir, network, tuple(made))


def test_a_free_network_overlaps_with_nothing_that_is_used() -> None:
    used = [ipaddress.IPv4Network("10.0.0.0/8"), ipaddress.IPv4Network("172.16.0.0/12")]
    assert ipaddress.IPv4Network(free_subnet(used)).subnet_of(ipaddress.IPv4Network("192.168.0.0/16"))
    used.append(ipaddress.IPv4Network("192.168.0.0/17"))
    left = [f"192.168.{number}.0/24" for number in range(128, 256)]
    used += [ipaddress.IPv4Network(f"{one.removesuffix('.0/24')}.77/32") for one in left if one != "192.168.200.0/24"]
    assert free_subnet(used) == "192.168.200.0/24"
    with pytest.raises(RunError, match="no private network is free"):
        free_subnet([*used, ipaddress.IPv4Network("192.168.200.7/32")])


@pytest.mark.parametrize(
    ("subnet", "why"),
    [
        ("10.1.2.3/24", "has host bits set"),
        ("10.1.2.0/28", "16 addresses"),
        ("10.9.8.0/24", "overlaps with 10.9.0.0/16"),
    ],
)
def test_a_network_that_cannot_be_had_is_refused(subnet: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"--subnet={subnet}.*{why}"):
        checked_subnet(subnet, [ipaddress.IPv4Network("10.9.0.0/16")])
    assert checked_subnet("10.1.2.0/24", [ipaddress.IPv4Network("10.9.0.0/16")]) == "10.1.2.0/24"


def test_each_node_has_an_address_of_its_own_and_names_that_the_kernel_takes() -> None:
    network = Network("llmc-abcdef", "10.20.30.0/24")
    numbers = range(1, MOST_WORKERS + 1)
    addresses = {network.head, *map(network.worker, numbers)}
    assert len(addresses) == MOST_WORKERS + 1
    assert all(ipaddress.ip_address(one) in ipaddress.ip_network(network.subnet) for one in addresses)
    interfaces = {network.bridge, *map(network.namespace, numbers)}
    assert len(interfaces) == MOST_WORKERS + 1 and max(map(len, interfaces)) <= LONGEST_INTERFACE


def test_a_plan_has_ports_that_differ_and_sockets_whose_paths_fit(tmp_path: Path) -> None:
    plan = lifecycle.planned("x", tmp_path, [2] * (MOST_WORKERS + 1), {}, None)
    ports = [port for node in plan.nodes for port in node.ports.values()]
    assert len(set(ports)) == len(ports) == 2 * (MOST_WORKERS + 1) + 3
    session = "session_2026-03-04_05-06-08_000001_4194304/sockets/plasma_store.1"
    assert max(len(str(node.temp_dir / session)) for node in plan.nodes) <= LONGEST_SOCKET
    assert not plan.temp_dir.exists(), "nothing is made yet"


def test_labels_of_a_node_that_is_not_there_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'worker-2'.*head, worker-1"):
        lifecycle.planned("x", tmp_path, [2, 2], {"worker-2": {"a": "b"}}, None)


def test_what_is_written_down_is_read_back(tmp_path: Path) -> None:
    for own_networks in (True, False):
        cluster = planned(tmp_path, own_networks=own_networks)
        write_state(cluster)
        assert read_state(tmp_path) == cluster


def test_the_environment_of_a_driver_names_the_cluster_and_a_file_instead_of_the_token(tmp_path: Path) -> None:
    cluster = planned(tmp_path)
    write_token(cluster)
    assert cluster.environment == {
        "RAY_ADDRESS": "10.20.30.1:1001",
        "RAY_API_SERVER_ADDRESS": "http://10.20.30.1:1002",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"),
    }


def test_the_token_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_token(planned(tmp_path))
    finally:
        os.umask(before)
    token = tmp_path / "token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert len(bytes.fromhex(token.read_text())) == 32
    with pytest.raises(FileExistsError):
        write_token(planned(tmp_path))


def test_a_command_has_no_token_and_each_node_its_place(tmp_path: Path) -> None:
    cluster = planned(tmp_path)
    write_token(cluster)
    head, worker, _ = [nodes.command(cluster, node) for node in cluster.nodes]
    assert head[0] == sys.executable and "--head" in head and "--dashboard-host=10.20.30.1" in head
    assert worker[:2] == ["nsenter", "--net=/run/netns/llmc-abcdef-1"] and "--head" not in worker
    assert "--address=10.20.30.1:1001" in worker and "--node-ip-address=10.20.30.11" in worker
    assert "--labels=zone=a,market=spot" in worker
    token = cluster.token_file.read_text()
    assert not any(token in argument for argument in [*head, *worker])
    cluster = planned(tmp_path, own_networks=False)
    assert nodes.command(cluster, cluster.nodes[1])[0] == sys.executable, "nothing before it on loopback"


def test_nodes_have_the_callers_environment_but_not_what_names_another_cluster(tmp_path: Path) -> None:
    cluster = planned(tmp_path)
    outer = {"AWS_SECRET_ACCESS_KEY": SECRET, "RAY_ADDRESS": "1.2.3.4:5", "RAY_AUTH_TOKEN": "other", "PATH": "/bin"}
    outer |= {"LLMCORE_LOCAL_RAY": "1.2.3.4:5", "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": "/nowhere"}
    head, worker, _ = [nodes.environment_of(cluster, node, outer) for node in cluster.nodes]
    for environment in (head, worker):
        assert environment["AWS_SECRET_ACCESS_KEY"] == SECRET
        assert environment["RAY_AUTH_MODE"] == "token"
        assert not {"RAY_ADDRESS", "RAY_AUTH_TOKEN", "LLMCORE_LOCAL_RAY", "RAY_TMPDIR"} & set(environment)
        assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_one_cluster_is_held_by_one_and_leaves_no_empty_folder(state_home: Path) -> None:
    with held("mine") as folder:
        assert folder == state_home / "mine" and stat.S_IMODE(folder.stat().st_mode) == 0o700
        with pytest.raises(ConfigError, match="'mine' is held by another"), held("mine"):
            pass
        with held("other"):
            pass
        assert folder.exists()
    assert not list(state_home.iterdir())


def test_clusters_are_listed_and_a_missing_one_is_told_with_those(state_home: Path) -> None:
    for name in ("b", "a"):
        with held(name) as folder:
            write_state(planned(folder))
    assert names() == ["a", "b"] and load("a").folder == state_home / "a"
    with pytest.raises(ConfigError, match=r"no local cluster 'c' \(there are: a, b\).*up --name c"):
        load("c")
    delete_state(load("a"))
    assert names() == ["b"]
    with pytest.raises(ConfigError, match="has no node 'worker-9': it has head, worker-1, worker-2"):
        load("b").node("worker-9")


@pytest.mark.parametrize("name", ["", "../other", "A", ".", "x/y", "-x"])
def test_a_name_that_could_leave_its_folder_is_refused(name: str, state_home: Path) -> None:
    with pytest.raises(ConfigError, match="is no name of a cluster"), held(name):
        pass
    assert not state_home.exists()


@pytest.mark.parametrize(
    "wrong", [["--nodes", "0"], ["--nodes", "101"], ["--cpus-per-node", "0"], ["--head-cpus", "-1"]]
)
def test_what_cannot_be_had_is_refused_before_anything_is_made(wrong: list[str], state_home: Path) -> None:
    ended = CliRunner().invoke(up, wrong)
    assert isinstance(ended.exception, ConfigError), ended
    assert not state_home.exists()


@pytest.mark.parametrize("labels", ["worker-1", "worker-1:spot", "worker-1:=x", ":a=b", "worker-1:a=b,c"])
def test_labels_have_a_form(labels: str) -> None:
    ended = CliRunner().invoke(up, ["--labels", labels])
    assert isinstance(ended.exception, ConfigError) and "NODE:KEY=VALUE" in str(ended.exception)


def test_down_of_nothing_says_so() -> None:
    ended = CliRunner().invoke(down, ["nothing"])
    assert ended.exit_code == 0 and "there is none" in ended.output


_PARENT = """
import os, subprocess, sys, time
environment = {} if sys.argv[1] == "empty" else None
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=environment)
print(child.pid, flush=True)
time.sleep(600)
"""


def _family(cluster: LocalCluster, node: int, child: str) -> "tuple[subprocess.Popen[str], int]":
    """A process of a node, and one that it has started."""
    environment = nodes.environment_of(cluster, cluster.nodes[node], os.environ)
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, child], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


def test_a_nodes_processes_are_found_and_ended_whoever_their_parent_is(tmp_path: Path) -> None:
    cluster = planned(tmp_path)
    first, of_first = _family(cluster, 1, "empty")
    second, of_second = _family(cluster, 2, "inherits")
    other, of_other = _family(planned(tmp_path / "other"), 1, "inherits")
    try:
        second.kill()
        second.wait()  # its child has another parent now
        found = {process.pid for process in nodes.processes(cluster.temp_dir)}
        assert found == {first.pid, of_first, of_second}
        assert {process.pid for process in nodes.processes(cluster.nodes[2].temp_dir)} == {of_second}
        assert nodes.end(cluster.nodes[1].temp_dir) == 2
        assert {process.pid for process in nodes.processes(cluster.temp_dir)} == {of_second}
        assert nodes.end(cluster.temp_dir) == 1
        assert nodes.end(cluster.temp_dir) == 0
        assert psutil.pid_exists(of_other), "what is another's is left alone"
    finally:
        for process in (first, second, other):
            process.kill()
            process.wait()
        for pid in (of_first, of_second, of_other):
            if psutil.pid_exists(pid):
                psutil.Process(pid).kill()


def test_a_node_that_ends_before_it_is_ready_is_told_with_its_last_words(tmp_path: Path) -> None:
    cluster = planned(tmp_path)
    node = cluster.nodes[1]
    node.temp_dir.mkdir(parents=True)
    node.log.write_text("first\nno address to be had\n")
    with pytest.raises(RunError, match="worker-1 ended before it was ready; it said:\nfirst\nno address to be had"):
        nodes.await_ready(node, time.monotonic() + 60)
