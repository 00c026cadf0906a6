"""Whether every node reaches, on every other, the ports that Ray and process groups listen at."""

import socket
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cluster.doctor.check import Check
from cluster.doctor.finding import EVERYWHERE, Finding
from cluster.doctor.node import Node
from cluster.doctor.patient import Patient
from cluster.doctor.raylet import raylet_options

__all__ = ["CHECK", "Port", "close_ports", "examine", "judge", "open_ports", "try_ports"]

_NAME = "ports"
_WITHIN_S = 3.0
_AT_ONCE = 64
_WORKERS, _GROUPS, _CONTROL = "workers", "process groups", "control service"
_FIXES = {
    _CONTROL: "let all nodes reach the head's --port (6379)",
    "node manager": "fix it by `ray start --node-manager-port`, and let all nodes reach it",
    "object manager": "fix it by `ray start --object-manager-port`, and let all nodes reach it",
    _WORKERS: "let nodes reach each other's worker ports; they are `ray start --min-worker-port … --max-worker-port …`",
    _GROUPS: "let nodes reach each other's ephemeral ports (net.ipv4.ip_local_port_range), which gloo and NCCL take",
}
_ALLOW = "in the security group, the NetworkPolicy or the firewall between the nodes"
_listening: list[socket.socket] = []
"""In a hand: what was opened there."""


@dataclass(frozen=True)
class Port:
    """A TCP port of a node, and what listens there."""

    node: Node
    what: str
    number: int


def open_ports() -> dict[str, int]:
    """Listen where a worker of this node would, at the upper end of its range, and where a process group would."""
    options = raylet_options()
    lowest, highest = (int(options.get(f"{which}_worker_port", 0)) for which in ("min", "max"))
    ranges = {_WORKERS: range(highest, lowest - 1, -1) if highest else (), _GROUPS: (0,)}
    opened = {what: _listen(numbers) for what, numbers in ranges.items()}
    return {what: number for what, number in opened.items() if number}


def _listen(numbers: Iterable[int]) -> int:
    """The first number that is free, with a listener at it; 0 where there is none."""
    for number in numbers:
        try:
            listener = socket.create_server(("", number))
        except OSError:
            continue
        _listening.append(listener)
        return int(listener.getsockname()[1])
    return 0


def close_ports() -> None:
    """What was opened by `open_ports`."""
    while _listening:
        _listening.pop().close()


def try_ports(targets: Sequence[tuple[str, int]]) -> list[str]:
    """Connect to each address and port from here: empty where that goes, else why not."""
    with ThreadPoolExecutor(min(_AT_ONCE, max(1, len(targets)))) as pool:
        return list(pool.map(_try, targets))


def _try(target: tuple[str, int]) -> str:
    try:
        socket.create_connection(target, timeout=_WITHIN_S).close()
    except OSError as error:
        return "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
    return ""


def examine(patient: Patient) -> list[Finding]:
    """Opens ports on each node, has each node try those of all others, and closes them; see `judge`."""
    opened, findings = patient.look(_NAME, open_ports)
    ports = [Port(node, what, number) for node in patient.nodes for what, number in node.ports.items()]
    ports += [Port(node, what, number) for node, numbers in opened.items() for what, number in numbers.items()]
    if patient.head is not None:
        ports.append(Port(patient.head, _CONTROL, int(patient.gcs_address.rpartition(":")[2])))
    asked = {node: [port for port in ports if port.node != node] for node in patient.nodes}
    calls = {node: (try_ports, [(port.node.address, port.number) for port in theirs]) for node, theirs in asked.items()}
    longest_s = 5 + _WITHIN_S * (1 + len(ports) // _AT_ONCE)
    answers = patient.hands.ask(calls, within_s=longest_s)
    patient.hands.ask_all(close_ports, within_s=5)
    tried = {
        node: dict(zip(asked[node], answer.value, strict=True))
        for node, answer in answers.items()
        if not answer.trouble
    }
    return [*findings, *judge(tried)]


def judge(tried: Mapping[Node, Mapping[Port, str]]) -> Iterable[Finding]:
    """What each node found at the others' ports: a finding for each port that a node does not reach."""
    reasons: dict[Port, dict[Node, str]] = defaultdict(dict)
    for node, found in tried.items():
        for port, reason in found.items():
            if reason:
                reasons[port][node] = reason
    for port, who in reasons.items():
        num_asked = sum(port in found for found in tried.values())
        (first, reason), *_ = who.items()
        seen = (
            f"port {port.number} ({port.what}) of {port.node.name} is not reached by {len(who)} of {num_asked} nodes: "
            f"{reason} ({', '.join(node.name for node in who) if len(who) <= 5 else f'{first.name}, …'})"
        )
        yield Finding(_NAME, "error", port.node.name, seen, f"{_FIXES[port.what]}, {_ALLOW}")
    if not reasons:
        num_tried = sum(len(found) for found in tried.values())
        told = f"all {num_tried} connections from each node to every other's" if num_tried else "one node: no other's"
        kinds = ", ".join(sorted({port.what for found in tried.values() for port in found}))
        yield Finding(_NAME, "ok", EVERYWHERE, f"{told} ports ({kinds})" if num_tried else f"{told} ports")


CHECK = Check(
    _NAME,
    f"Every node reaches Ray's, the workers' and the process groups' ports of every other in {_WITHIN_S:g} s (error)",
    examine,
)
