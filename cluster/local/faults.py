"""What happens to clusters, done on purpose: a node is lost, its network is cut, the head goes; and their return."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from cluster.local import nodes
from cluster.local.lifecycle import READY_WITHIN_S, begin
from cluster.local.state import LocalCluster, Node
from llmcore.errors import ConfigError

__all__ = ["cut", "lose", "restore"]


def lose(node: Node) -> int:
    """Kill all processes of a node at once, workers of jobs too, as when its power fails; returns how many."""
    return nodes.end(node.temp_dir)


@contextmanager
def cut(cluster: LocalCluster, node: Node) -> Iterator[None]:
    """The node's network is cut for the time of a `with` block: its processes run on, and nobody hears of them.

    Raises ConfigError where the node has no network of its own.
    """
    if cluster.network is None or node.namespace is None:
        raise ConfigError(f"node {node.name} of cluster {cluster.name!r} has no network of its own that could be cut")
    cluster.network.unplug(node.namespace)
    try:
        yield
    finally:
        cluster.network.plug(node.namespace)


def restore(
    cluster: LocalCluster, environment: Mapping[str, str] | None = None, *, ready_within_s: float = READY_WITHIN_S
) -> list[Node]:
    """Start again what of the cluster's nodes is lost, and wait until it is there; returns those nodes.

    Where that is the head, all are: its workers belong to a cluster that is no more. What a lost node left running is
    killed before. Their environment is this process's, or the one given.
    """
    lost = [node for node in cluster.nodes if not nodes.is_alive(node)]
    if cluster.head in lost:
        lost = list(cluster.nodes)
    for node in lost:
        nodes.end(node.temp_dir)
    if lost:
        begin(cluster, lost, environment, time.monotonic() + ready_within_s)
    return lost
