"""Whether two workers train together at ZeRO-3."""

from collections.abc import Iterable, Mapping, Sequence
from math import isclose

from cluster.doctor.check import Check
from cluster.doctor.checks.groups import backend_of
from cluster.doctor.finding import EVERYWHERE, Finding
from cluster.doctor.hands import Answer
from cluster.doctor.node import Node
from cluster.doctor.patient import Patient
from cluster.doctor.rank import Meeting, listen
from cluster.doctor.zero_step import Trained, train

__all__ = ["CHECK", "examine", "judge", "who_trains"]

_NAME = "ZeRO step"
_WITHIN_S = 60.0
"""With the imports of torch and DeepSpeed, some ten seconds on a busy node."""
_GOOD_S = 10.0
_RELATIVE = 1e-3
_FIX = (
    "see what the two workers said in session_latest/logs of Ray's temporary folder there; first mend what else is "
    "found of these nodes"
)


def examine(patient: Patient) -> list[Finding]:
    """Trains on two nodes, on an only one where there is no other; see `judge`."""
    with patient.borrow_ranks() as ranks:
        nodes = who_trains(ranks.nodes)
        if not nodes:
            return [Finding(_NAME, "unknown", EVERYWHERE, "there is no worker to train in")]
        first = nodes[0]
        listening = ranks.ask({first: (listen, first.address, len(nodes))}, within_s=_WITHIN_S)[first]
        if listening.trouble:
            return list(judge({first: listening}))
        meeting = Meeting(first.address, listening.value, backend_of(nodes), len(nodes), _WITHIN_S)
        calls = {node: (train, rank, meeting) for rank, node in enumerate(nodes)}
        return list(judge(ranks.ask(calls, within_s=_WITHIN_S)))


def who_trains(nodes: Sequence[Node]) -> list[Node]:
    """Two nodes, with GPUs where there are such."""
    with_gpu = [node for node in nodes if node.num_gpus]
    return (with_gpu or list(nodes))[:2]


def judge(answers: Mapping[Node, Answer]) -> Iterable[Finding]:
    """Holds the losses against plain PyTorch's, the device against the node's, and the time against ten seconds."""
    where = " and ".join(node.name for node in answers)
    troubled = {node: answer.trouble for node, answer in answers.items() if answer.trouble}
    if troubled:
        told = "; ".join(f"{node.name}: {trouble}" for node, trouble in troubled.items())
        yield Finding(_NAME, "error", where, told, _FIX)
        return
    found = []
    for node, answer in answers.items():
        trained: Trained = answer.value
        if node.num_gpus and trained.accelerator == "cpu":
            seen = f"DeepSpeed takes the CPU of a node with {node.num_gpus:g} GPUs"
            fix = "unset DS_ACCELERATOR in the environment of the node's Ray, and install torch's build for CUDA"
            found.append(Finding(_NAME, "error", node.name, seen, fix))
        pairs = list(zip(trained.losses, trained.expected, strict=True))
        if not all(isclose(loss, right, rel_tol=_RELATIVE) for loss, right in pairs):
            told = ", ".join(f"{loss:.6g} (plain PyTorch {right:.6g})" for loss, right in pairs)
            seen = f"its losses are {told}"
            found.append(Finding(_NAME, "error", node.name, seen, "install DeepSpeed and torch as pinned"))
    seconds = max(answer.value.seconds for answer in answers.values())
    device = ", ".join(sorted({answer.value.accelerator for answer in answers.values()}))
    told = f"{len(answers)} workers ({device}) made an engine and three steps in {seconds:.1f} s"
    if found:
        yield from found
    elif seconds > _GOOD_S:
        fix = "the first one may have compiled; again slow, look at the network between them"
        yield Finding(_NAME, "warning", where, f"{told}, more than {_GOOD_S:g} s", fix)
    else:
        yield Finding(_NAME, "ok", where, f"{told}, with the losses of plain PyTorch")


CHECK = Check(
    _NAME,
    f"Two workers make three steps at ZeRO-3 with the losses of plain PyTorch (error), in {_GOOD_S:g} s (warning)",
    examine,
)
