"""What a cluster has, held against what a job asks for, before anything is placed."""

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import floor, inf
from typing import Literal

from cluster.placement import given, labels_of_nodes, matches, told_labels
from llmcore.errors import ConfigError
from llmcore.records import SUBMISSION

__all__ = [
    "Need",
    "always_room",
    "check_fits",
    "cluster_nodes",
    "fit_anyhow",
    "gpus_each",
    "has_room_beside",
    "why_not",
]

_TOLERANCE = 1e-6
_JOINING_S = 120.0
"""The nodes of a cluster whose head is that young may still be on their way to it: it was lost, and is there again."""
_BEGUN = re.compile(r"session_(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)_")


@dataclass(frozen=True)
class Need:
    """`count` processes, each with so many CPUs and GPUs of one node, which has such labels."""

    what: str
    cpus: float
    gpus: float = 0.0
    count: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [f"{self.cpus:g} CPU"] if self.cpus or not self.gpus else []
        parts += [f"{self.gpus:g} GPU"] if self.gpus else []
        return f"{self.count} × {' + '.join(parts)}"


def check_fits(needs: Sequence[Need]) -> None:
    """Raise ConfigError when the connected cluster cannot hold all the needs at the same time.

    Where nodes come when they are asked for (`cluster.autoscaling`), nothing is known yet, and nothing is refused. A
    submitted job waits for nodes as long as the cluster's head has just begun.
    """
    if given().autoscaling:
        return
    is_told = False
    while reason := why_not(needs, cluster_nodes(), labels_of_nodes()):
        if os.environ.get(SUBMISSION) is None or _age_s() > _JOINING_S:
            raise ConfigError(reason)
        if not is_told:
            print(
                f"the head of the cluster has just begun, waiting for its nodes: {reason}", file=sys.stderr, flush=True
            )
        is_told = True
        time.sleep(1.0)


def _age_s() -> float:
    """Seconds since the head of the connected cluster began, by the clocks of both."""
    import ray

    begun = _BEGUN.match(ray.get_runtime_context().get_session_name())
    return inf if begun is None else time.time() - datetime.strptime(begun[1], "%Y-%m-%d_%H-%M-%S").timestamp()


def has_room_beside(task: Need, beside: Need) -> bool:
    """Whether the connected cluster has room for a task wherever it puts the processes of another need."""
    return given().autoscaling or always_room(task, beside, cluster_nodes(), labels_of_nodes())


def fit_anyhow(needs: Sequence[Need]) -> bool:
    """Whether all the needs find their places, wherever the first that come are put.

    On one node that is a sum. Of several nodes each may have too little left, so it is not certain there; nor where
    nodes come when they are asked for, of which there may be no more.
    """
    nodes = [node for node in cluster_nodes() if node.get("CPU", 0.0) > 0]
    return not given().autoscaling and len(nodes) == 1 and why_not(needs, nodes) is None


def gpus_each(wanted: float | Literal["auto"], count: int) -> float:
    """GPUs of each of so many processes: as wanted, or one where the connected cluster has one for each."""
    if wanted != "auto":
        return wanted
    import ray

    return 1.0 if ray.cluster_resources().get("GPU", 0.0) >= count else 0.0


def cluster_nodes() -> list[dict[str, float]]:
    """The resources of each living node of the connected cluster: `CPU`, `GPU`, …"""
    import ray

    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def why_not(
    needs: Sequence[Need], nodes: Sequence[Mapping[str, float]], labels: Sequence[Mapping[str, str]] = ()
) -> str | None:
    """What does not fit on the nodes, and the fix; None when nothing speaks against it.

    Args:
        needs: What runs at the same time.
        nodes: Of each node the resources: `CPU`, `GPU`.
        labels: Of each node its labels, in the same order; none have any where it is left out.
    """
    labelled = list(zip(nodes, labels or [{}] * len(nodes), strict=True))
    for need in needs:
        fitting = [node for node, has in labelled if matches(need.labels, has)]
        if sum(_num_places(need, node) for node in fitting) < need.count:
            where = f"nodes with {told_labels(need.labels)} have" if need.labels else "the cluster has"
            alone = (
                _short(need, _sums(fitting)) or f"no {'' if len(fitting) == 1 else 'single '}node with room for each"
            )
            return f"{need.what} needs {need}, {where} {alone}; {_fix(need)}"
    for together, selector in _at_once(needs):
        has = _sums([node for node, labels in labelled if matches(selector, labels)])
        asked = {"CPU": sum(n.cpus * n.count for n in together), "GPU": sum(n.gpus * n.count for n in together)}
        for name, amount in asked.items():
            if amount > has[name] + _TOLERANCE:
                parts = " and ".join(f"{need.what} ({need})" for need in together)
                where = f"nodes with {told_labels(selector)} have" if selector else "the cluster has"
                return f"{parts} need {amount:g} {name} together, {where} {has[name]:g}; {_fix(together[0])}"
    return None


def always_room(
    task: Need, beside: Need, nodes: Sequence[Mapping[str, float]], labels: Sequence[Mapping[str, str]] = ()
) -> bool:
    """Whether one process of `task` finds a node, wherever all those of `beside` lie.

    What is left of a cluster may be a little on each node, and too little on any. So it is counted how many processes
    it takes to leave no node with room. The arguments are those of `why_not`.
    """
    in_the_way = 0.0
    for node, has in zip(nodes, labels or [{}] * len(nodes), strict=True):
        if matches(task.labels, has):
            most = min(_num_places(beside, node), beside.count) if matches(beside.labels, has) else 0
            in_the_way += next(
                (
                    number
                    for number in range(int(most) + 1)
                    if node.get("CPU", 0.0) - number * beside.cpus < task.cpus - _TOLERANCE
                ),
                inf,
            )
    return in_the_way > beside.count


def _at_once(needs: Sequence[Need]) -> Iterator[tuple[list[Need], Mapping[str, str]]]:
    """Those that share the same nodes, and all of them, who share the cluster."""
    for selector in [dict(pairs) for pairs in {tuple(sorted(need.labels.items())): None for need in needs} if pairs]:
        yield [need for need in needs if need.labels == selector], selector
    yield list(needs), {}


def _sums(nodes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(node.get(name, 0.0) for node in nodes) for name in ("CPU", "GPU")}


def _num_places(need: Need, node: Mapping[str, float]) -> float:
    """How often the need's process fits on the node."""
    asked = ((need.cpus, node.get("CPU", 0.0)), (need.gpus, node.get("GPU", 0.0)))
    return min((floor(has / amount + _TOLERANCE) for amount, has in asked if amount), default=inf)


def _short(need: Need, has: Mapping[str, float]) -> str | None:
    asked = {"CPU": need.cpus * need.count, "GPU": need.gpus * need.count}
    lacking = [name for name, amount in asked.items() if amount > has[name] + _TOLERANCE]
    return " and ".join(f"{has[name]:g} {name}" for name in lacking) or None


def _fix(need: Need) -> str:
    """What can be done; a local Ray's CPUs are a number that it is told."""
    if need.gpus:
        return "ask for fewer workers or GPUs each, or use a larger cluster"
    return "ask for fewer workers or CPUs each, raise cluster.num_cpus of a local Ray, or use a larger cluster"
