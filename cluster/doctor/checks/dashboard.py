"""Where the dashboard listens: whoever reaches it, and is let in, runs what he likes (CVE-2023-48022)."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from cluster.doctor.check import Check
from cluster.doctor.finding import EVERYWHERE, Finding
from cluster.doctor.patient import Patient, not_seen

__all__ = ["CHECK", "Listening", "examine", "judge", "look"]

_NAME = "dashboard"
_FIX = (
    "start the head with --dashboard-host=127.0.0.1 (and come in by `ssh -L` or `kubectl port-forward`), or give it a "
    "private address alone; a firewall in front is a second wall, not the first"
)


@dataclass(frozen=True)
class Listening:
    """Addresses that a port is bound to, and those that the node has."""

    bound: tuple[str, ...]
    own: tuple[str, ...]


def look(port: int) -> Listening:
    """Who may come to a port of this node."""
    import psutil

    listening = [found.laddr for found in psutil.net_connections("tcp") if found.status == psutil.CONN_LISTEN]
    bound = {address.ip for address in listening if address and address.port == port}
    own = {address.address.partition("%")[0] for found in psutil.net_if_addrs().values() for address in found}
    return Listening(tuple(sorted(bound)), tuple(sorted(filter(_is_address, own))))


def _is_address(text: str) -> bool:
    """Whether it is an IP address; network interfaces have others too."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def examine(patient: Patient) -> list[Finding]:
    """See `judge`."""
    head = patient.head
    if not patient.dashboard or head is None:
        why = "the cluster has no dashboard" if head is not None else "the head runs no task"
        return [Finding(_NAME, "unknown", EVERYWHERE, why)]
    port = int(patient.dashboard.rpartition(":")[2])
    (answer,) = patient.hands.ask({head: (look, port)}, within_s=10).values()
    if answer.trouble:
        return [not_seen(_NAME, head, answer)]
    return list(judge(head.name, port, answer.value))


def judge(where: str, port: int, listening: Listening) -> Iterable[Finding]:
    """Whether an address that it listens at is one that the internet knows."""
    reached = [
        own for bound in listening.bound for own in (listening.own if ip_address(bound).is_unspecified else (bound,))
    ]
    public = sorted({address for address in reached if ip_address(address.removeprefix("::ffff:")).is_global})
    bound = ", ".join(listening.bound) or "an address of another node"
    if public:
        yield Finding(
            _NAME, "error", where, f"listens at {bound}, port {port}: at the public {', '.join(public)}", _FIX
        )
    else:
        yield Finding(_NAME, "ok", where, f"listens at {bound}, port {port}: at no public address")


CHECK = Check(_NAME, "The dashboard listens at no public address (error)", examine)
