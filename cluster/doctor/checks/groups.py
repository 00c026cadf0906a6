"""Whether workers of each two nodes form a process group, as those of a training would."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cluster.doctor.check import Check
from cluster.doctor.finding import EVERYWHERE, Finding
from cluster.doctor.hands import Hands
from cluster.doctor.node import Node
from cluster.doctor.patient import Patient
from cluster.doctor.rank import Meeting, Way, exchange, listen, way_of

__all__ = ["CHECK", "Met", "backend_of", "examine", "fix_for", "judge", "rounds"]

_NAME = "process groups"
_STARTED_WITHIN_S = 45.0
_WITHIN_S = 20.0
_LOOKUP_S = 1.0
_MAX_ROUNDS = 15
"""A round is one meeting of every node with another: beyond sixteen nodes not every two of them meet."""
_BITS = 8 * 4 * 2**20
Pair = tuple[Node, Node]


@dataclass(frozen=True)
class Met:
    """How a meeting of two nodes went: its backend, why it failed (empty where it did not), and seconds for 4 MiB."""

    backend: str
    trouble: str
    seconds: float = 0.0


def examine(patient: Patient) -> list[Finding]:
    """Lets the nodes meet in pairs, many pairs at a time; see `judge`."""
    with patient.borrow_ranks() as ranks:
        answers = ranks.ask({node: (way_of, node.address) for node in ranks.nodes}, within_s=_STARTED_WITHIN_S)
        found = [_not_started(node, answer.trouble) for node, answer in answers.items() if answer.trouble]
        ranks.keep([node for node, answer in answers.items() if not answer.trouble])
        met: dict[Pair, Met] = {}
        for pairs in rounds(ranks.nodes)[:_MAX_ROUNDS]:
            met |= _meet(ranks, pairs)
    return found + list(judge(met, {node: answers[node].value for node in ranks.nodes}))


def rounds(nodes: Sequence[Node]) -> list[list[Pair]]:
    """Every two nodes once, in rounds in which none is in two pairs (the circle method of tournaments)."""
    turning: list[Node | None] = [*nodes, None] if len(nodes) % 2 else [*nodes]
    played = []
    for _ in range(len(turning) - 1):
        half = len(turning) // 2
        facing = zip(turning[:half], reversed(turning[half:]), strict=True)
        played.append([(one, other) for one, other in facing if one is not None and other is not None])
        turning = [turning[0], turning[-1], *turning[1:-1]]
    return [pairs for pairs in played if pairs]


def backend_of(nodes: Sequence[Node]) -> str:
    """What processes on these nodes exchange by."""
    return "nccl" if all(node.num_gpus for node in nodes) else "gloo"


def _meet(ranks: Hands, pairs: Sequence[Pair]) -> dict[Pair, Met]:
    """One round: the first of each pair listens, then both come."""
    listening = ranks.ask({one: (listen, one.address, 2) for one, _ in pairs}, within_s=_WITHIN_S)
    calls: dict[Node, tuple[object, ...]] = {}
    for one, other in pairs:
        if not listening[one].trouble:
            meeting = Meeting(one.address, listening[one].value, backend_of((one, other)), 2, _WITHIN_S)
            calls |= {one: (exchange, 0, meeting), other: (exchange, 1, meeting)}
    answers = ranks.ask(calls, within_s=2 * _WITHIN_S)  # torch's own deadline comes first, and says more
    met = {}
    for one, other in pairs:
        both = [answers.get(node, listening[one]) for node in (one, other)]
        trouble = next((answer.trouble for answer in both if answer.trouble), "")
        seconds = 0.0 if trouble else max(answer.value for answer in both)
        met[one, other] = Met(backend_of((one, other)), trouble, seconds)
    return met


def _not_started(node: Node, trouble: str) -> Finding:
    if node.num_gpus:
        fix = "wait until one of its GPUs is free, and look again"
        return Finding(_NAME, "unknown", node.name, f"no worker with a GPU was to be had: {trouble}", fix)
    return Finding(_NAME, "error", node.name, f"no worker imports torch: {trouble}", "install torch there as pinned")


def judge(met: Mapping[Pair, Met], ways: Mapping[Node, Way]) -> Iterable[Finding]:
    """An error for each node that met nobody, and for each other pair that did not meet."""
    failed = {pair: how for pair, how in met.items() if how.trouble}
    meetings, failures = (Counter(node for pair in pairs for node in pair) for pairs in (met, failed))
    alone = {node for node, count in failures.items() if count == meetings[node] > 1}
    if len(alone) == len(meetings):
        alone = set()  # it is nobody's own fault: every pair is told
    for node in alone:
        how = next(how for pair, how in failed.items() if node in pair)
        seen = f"meets none of {meetings[node]} other nodes by {how.backend}: {how.trouble}"
        yield Finding(_NAME, "error", node.name, seen, fix_for((node,), how.backend, ways))
    for pair, how in failed.items():
        if not alone & {*pair}:
            where = f"{pair[0].name} ↔ {pair[1].name}"
            yield Finding(_NAME, "error", where, f"{how.backend}: {how.trouble}", fix_for(pair, how.backend, ways))
    for node, way in ways.items():
        if way.lookup_s > _LOOKUP_S:
            seen = f"the name of {node.address} is looked up for {way.lookup_s:.1f} s, at each start of a process group"
            fix = (
                "name a server that answers in its /etc/resolv.conf, or give up sooner: `options timeout:1 attempts:1`"
            )
            yield Finding(_NAME, "warning", node.name, seen, fix)
    if met and not failed:
        slowest = max(met, key=lambda pair: met[pair].seconds)
        count = len(meetings) * (len(meetings) - 1) // 2
        backends = " and ".join(sorted({how.backend for how in met.values()}))
        told = (
            f"{len(met)} of {count} pairs of workers exchange by {backends}; the slowest, {slowest[0].name} and "
            f"{slowest[1].name}, {_BITS / max(met[slowest].seconds, 1e-9) / 1e9:.2g} Gbit/s"
        )
        yield Finding(_NAME, "ok", EVERYWHERE, told)
    if not met:
        yield Finding(_NAME, "unknown", EVERYWHERE, "there are no two workers to meet")


def fix_for(nodes: Sequence[Node], backend: str, ways: Mapping[Node, Way]) -> str:
    """What helps these nodes to meet: where the wrong interface is named, that is told."""
    variable = f"{backend.upper()}_SOCKET_IFNAME"
    for node in nodes:
        way = ways[node]
        if variable in way.named and way.interface not in way.named[variable].strip("=^").split(","):
            return f"{variable}={way.named[variable]} on {node.name} is not {way.interface}, which has {node.address}"
    return (
        f"let the nodes reach each other at all TCP ports ({backend} takes free ones), and name the interface in "
        f"{variable} in the environment of each node's Ray"
    )


CHECK = Check(
    _NAME,
    f"Workers of each two nodes form a group by NCCL or gloo and exchange 4 MiB within {_WITHIN_S:g} s (error), and no "
    f"name server has them wait for {_LOOKUP_S:g} s (warning)",
    examine,
)
