"""What a check has to work with: the cluster's nodes, hands on them, and what the user asked for."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

from cluster.doctor.finding import Finding
from cluster.doctor.hands import Answer, Hands
from cluster.doctor.node import Node

__all__ = ["Asked", "Patient", "ranks_of"]


@dataclass(frozen=True)
class Asked:
    """What jobs will need.

    Attributes:
        storage: URL of the storage; None where none was named.
        num_gpus: GPUs that the cluster is to have.
        swap: `offload.folder` of jobs that offload to NVMe; None where none does.
    """

    storage: str | None = None
    num_gpus: int = 0
    swap: str | None = None


@dataclass
class Patient:
    """The cluster under examination.

    Attributes:
        asked: What jobs will need.
        gcs_address: `host:port` of its control service.
        dashboard: `host:port` of its dashboard; empty where it has none.
        hands: On every node that answers.
        ranks: Processes to train in, on those nodes; see `borrow_ranks`.
    """

    asked: Asked
    gcs_address: str
    dashboard: str
    hands: Hands
    ranks: Hands
    _ranks_taken: Lock = field(default_factory=Lock)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Those that answer, the head first."""
        return self.hands.nodes

    @property
    def head(self) -> Node | None:
        """The node of the head; None where it does not answer."""
        return next((node for node in self.nodes if node.is_head), None)

    def look(
        self, check: str, probe: Callable[..., Any], *arguments: Any, within_s: float = 10.0
    ) -> tuple[dict[Node, Any], list[Finding]]:
        """What a probe saw on each node, and a finding for each node where it saw nothing."""
        answers = self.hands.ask_all(probe, *arguments, within_s=within_s)
        seen = {node: answer.value for node, answer in answers.items() if not answer.trouble}
        return seen, [not_seen(check, node, answer) for node, answer in answers.items() if answer.trouble]

    @contextmanager
    def borrow_ranks(self) -> Iterator[Hands]:
        """The ranks for oneself: a process is in one process group at a time."""
        with self._ranks_taken:
            yield self.ranks


def not_seen(check: str, node: Node, answer: Answer) -> Finding:
    """What is found where a probe did not do its work."""
    fix = f"try it there by hand; Ray's logs on {node.name} are in session_latest/logs of its temporary folder"
    return Finding(check, "error", node.name, f"could not be looked at: {answer.trouble}", fix)


def ranks_of(nodes: Sequence[Node]) -> list[Node]:
    """Where processes to train in are started: one a node, and on an only node two, if it has not a single GPU."""
    if len(nodes) == 1 and nodes[0].num_gpus in (0, *range(2, 1000)):
        return [nodes[0], replace(nodes[0], name=f"{nodes[0].name} (second)")]
    return list(nodes)
