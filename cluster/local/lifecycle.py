"""The beginning and the end of a local cluster."""

import secrets
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from cluster.local import network, nodes
from cluster.local.state import LocalCluster, Node, delete_state, held, read_state, write_state, write_token
from llmcore.errors import ConfigError, RunError

__all__ = ["READY_WITHIN_S", "begin", "down", "planned", "up"]

_PREFIX = "llmc-"
_TEMPORARY = Path("/tmp")
"""Not $TMPDIR: the paths of Ray's sockets, which lie in there, may have 107 characters."""
READY_WITHIN_S = 180.0
_LOOPBACK = "127.0.0.1"


def up(
    name: str = "local",
    *,
    num_nodes: int = 3,
    cpus_per_node: int = 2,
    head_cpus: int | None = None,
    labels: Mapping[str, Mapping[str, str]] | None = None,
    namespaces: bool | None = None,
    subnet: str | None = None,
    environment: Mapping[str, str] | None = None,
    ready_within_s: float = READY_WITHIN_S,
) -> LocalCluster:
    """Start a cluster of so many nodes, the head among them, that asks for a token; it outlives this process.

    CPUs are a number that Ray is told; `head_cpus` are the head's where they are others, and 0 keeps all work from it.
    `labels` are those of nodes by their names, `head`, `worker-1`, …. `namespaces` None gives each worker a network of
    its own where that can be done; in `subnet` the head has the first address, where the nodes find this machine and
    what serves on it. Without it one is drawn that nothing uses. Nodes have this process's environment, or the one
    given.
    Raises ConfigError where a cluster of this name is up or what is asked for cannot be had, RunError where it fails;
    nothing is left of it then.
    """
    num_cpus = [cpus_per_node if head_cpus is None else head_cpus, *([cpus_per_node] * (num_nodes - 1))]
    _check(num_nodes, num_cpus)
    reason = network.why_no_namespaces() if namespaces is not False else "not wanted"
    if (namespaces or subnet) and reason:
        raise ConfigError(f"no networks of their own: {reason}; leave --namespaces and --subnet away")
    with held(name) as folder:
        before = read_state(folder)
        if before is not None:
            alive = sum(map(nodes.is_alive, before.nodes))
            if alive:
                raise ConfigError(
                    f"cluster {name!r} is up, {alive} of {len(before.nodes)} nodes: end it with "
                    f"`python -m cluster down {name}`, or give another name"
                )
            _remove(before)
        own = _subnet(subnet) if reason is None else None
        cluster = planned(name, folder, num_cpus, labels or {}, own)
        write_state(cluster)
        try:
            _make(cluster, environment, time.monotonic() + ready_within_s)
        except BaseException:
            _remove(cluster)
            raise
    return cluster


def down(name: str = "local") -> LocalCluster | None:
    """End a cluster, whatever is left of it, and remove all that it made; None where there was nothing.

    Raises RunError where something cannot be removed; the next `down` goes on.
    """
    with held(name) as folder:
        cluster = read_state(folder)
        if cluster is not None:
            _remove(cluster)
    return cluster


def _await_head(cluster: LocalCluster, deadline: float) -> None:
    """Wait until the dashboard answers those who have the token; raises RunError where it answers those without.

    The deadline is of the monotonic clock.
    """
    token = cluster.token_file.read_text(encoding="utf-8")
    while _status_code(cluster.dashboard, token) != 200:
        if not nodes.is_alive(cluster.head):
            raise RunError(f"the head of cluster {cluster.name!r} ended before its dashboard answered")
        if time.monotonic() > deadline:
            raise RunError(f"the dashboard of cluster {cluster.name!r} did not answer in time at {cluster.dashboard}")
        time.sleep(0.2)
    if _status_code(cluster.dashboard, None) != 401:
        raise RunError(
            f"the dashboard at {cluster.dashboard} answers without a token: this is no version of Ray for us"
        )


def _check(num_nodes: int, num_cpus: Sequence[int]) -> None:
    if not 1 <= num_nodes <= network.MOST_WORKERS + 1:
        raise ConfigError(f"--nodes={num_nodes}: give 1 to {network.MOST_WORKERS + 1}, the head among them")
    if min(num_cpus) < 0 or not any(num_cpus):
        told = "/".join(map(str, num_cpus))
        raise ConfigError(f"{told} CPUs on the nodes: give 0 or more to each, and one of them more than 0")


def _subnet(wanted: str | None) -> str:
    used = network.used_subnets()
    return network.checked_subnet(wanted, used) if wanted else network.free_subnet(used)


def planned(
    name: str,
    folder: Path,
    num_cpus: Sequence[int],
    labels: Mapping[str, Mapping[str, str]],
    subnet: str | None,
) -> LocalCluster:
    """All names, addresses and ports, before any of it is made; without a network of its own all is on loopback."""
    mark = _PREFIX + secrets.token_hex(3)
    temp_dir = _TEMPORARY / mark
    own = network.Network(mark, subnet) if subnet else None
    ports = _free_ports(2 * len(num_cpus) + 2)
    made = []
    for number, cpus in enumerate(num_cpus):
        node_name = f"worker-{number}" if number else "head"
        of_head = {} if number else {"gcs": ports.pop(), "dashboard": ports.pop()}
        made.append(
            Node(
                name=node_name,
                address=(own.worker(number) if number else own.head) if own else _LOOPBACK,
                namespace=own.namespace(number) if own and number else None,
                num_cpus=cpus,
                ports={"metrics": ports.pop(), "agent": ports.pop(), **of_head},
                labels=dict(labels.get(node_name, {})),
                temp_dir=temp_dir / node_name,
            )
        )
    if unknown := sorted(set(labels) - {node.name for node in made}):
        there = ", ".join(node.name for node in made)
        raise ConfigError(f"--labels of {unknown[0]!r}: there is no such node, there are {there}")
    return LocalCluster(name=name, folder=folder, temp_dir=temp_dir, network=own, nodes=tuple(made))


def _make(cluster: LocalCluster, environment: Mapping[str, str] | None, deadline: float) -> None:
    write_token(cluster)
    cluster.temp_dir.mkdir(mode=0o700)
    if cluster.network is not None:
        cluster.network.make(len(cluster.nodes) - 1)
    begin(cluster, cluster.nodes, environment, deadline)


def begin(cluster: LocalCluster, which: Sequence[Node], environment: Mapping[str, str] | None, deadline: float) -> None:
    """Start these nodes, the head first where it is among them, and wait until all are there."""
    for node in which:
        nodes.start(cluster, node, environment)
        if node is cluster.head:
            nodes.await_ready([node], deadline)
    nodes.await_ready(which, deadline)
    _await_head(cluster, deadline)


def _remove(cluster: LocalCluster) -> None:
    """Remove all of it, what is written down last."""
    nodes.end(cluster.temp_dir)
    if cluster.network is not None:
        cluster.network.remove()
    if cluster.temp_dir.exists():
        shutil.rmtree(cluster.temp_dir)
    delete_state(cluster)


def _status_code(dashboard: str, token: str | None) -> int | None:
    """Of an answer of the Jobs API; None where there is none."""
    request = urllib.request.Request(f"{dashboard}/api/jobs/")
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def _free_ports(count: int) -> list[int]:
    """So many different ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("", 0))
        return [one.getsockname()[1] for one in sockets]
