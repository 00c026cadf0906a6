"""The nodes of the connected cluster, as Ray lists them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

__all__ = ["Node", "living_nodes"]

_HEAD = "node:__internal_head__"
"""The resource by which Ray marks the node of the head."""


@dataclass(frozen=True)
class Node:
    """A node that Ray says is alive.

    Attributes:
        id: Ray's.
        name: What people call it: unlike all others' names.
        address: Its IP address.
        is_head: Whether the cluster's head is on it.
        num_gpus: GPUs that Ray hands out.
        object_store_bytes: Size of its object store.
        ports: Of its own Ray processes, by what listens there.
    """

    id: str
    name: str
    address: str
    is_head: bool = False
    num_gpus: float = 0.0
    object_store_bytes: int = 0
    ports: Mapping[str, int] = field(default_factory=dict, hash=False)


def living_nodes() -> list[Node]:
    """The nodes of the connected cluster, the head first."""
    import ray

    return parsed(ray.nodes())


def parsed(listed: Sequence[Mapping[str, Any]]) -> list[Node]:
    """The living ones of what `ray.nodes()` lists, the head first; where two have one name, parts of their ids."""
    nodes = [_parsed(node) for node in listed if node["Alive"]]
    named = Counter(node.name for node in nodes)
    nodes = [replace(node, name=f"{node.name}/{node.id[:6]}") if named[node.name] > 1 else node for node in nodes]
    return sorted(nodes, key=lambda node: (not node.is_head, node.name))


def _parsed(node: Mapping[str, Any]) -> Node:
    resources = node["Resources"]
    return Node(
        id=node["NodeID"],
        name=node.get("NodeName") or node["NodeManagerAddress"],
        address=node["NodeManagerAddress"],
        is_head=_HEAD in resources,
        num_gpus=resources.get("GPU", 0.0),
        object_store_bytes=int(resources.get("object_store_memory", 0)),
        ports={"node manager": node["NodeManagerPort"], "object manager": node["ObjectManagerPort"]},
    )
