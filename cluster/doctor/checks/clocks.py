"""Whether the nodes' clocks agree, as far as what a run writes with its time needs them to."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from cluster.doctor.check import Check
from cluster.doctor.finding import Finding
from cluster.doctor.node import Node
from cluster.doctor.patient import Patient, not_seen
from llmcore.records.heartbeat import TIMING

__all__ = ["CHECK", "Offset", "best", "examine", "judge", "read_clock"]

_NAME = "clocks"
_BORNE_S = TIMING.stale_s - 2 * TIMING.beat_s
"""A heartbeat is as old as a beat and its writing, another beat, before the next is seen; older than `stale_s` by the
clock of who looks, its run is told as dead while it lives."""
_GOOD_S = TIMING.beat_s / 2
_ROUNDS = 8
_FIX = "keep it by NTP: chronyd or systemd-timesyncd on the node itself; containers have their host's clock"


@dataclass(frozen=True)
class Offset:
    """How far a clock is ahead of the driver's, and how far that may be wrong: half of the round trip; in seconds."""

    ahead_s: float
    within_s: float


def read_clock() -> float:
    """Unix time, here."""
    return time.time()


def examine(patient: Patient) -> list[Finding]:
    """Asks each node for its time, all at once and a few times over; see `judge`."""
    readings: dict[Node, list[Offset]] = {node: [] for node in patient.nodes}
    findings = []
    for _ in range(_ROUNDS):
        asked = time.time()
        answers = patient.hands.ask_all(read_clock, within_s=10)
        for node, answer in answers.items():
            if not answer.trouble:
                readings[node].append(Offset(answer.value - (asked + answer.seconds / 2), answer.seconds / 2))
    for node, offsets in readings.items():
        if not offsets:
            findings.append(not_seen(_NAME, node, answers[node]))
    return [*findings, *judge({node: best(offsets) for node, offsets in readings.items() if offsets})]


def best(offsets: Iterable[Offset]) -> Offset:
    """The one with the shortest round trip, which says most (as in NTP's clock filter, RFC 5905, section 10)."""
    return min(offsets, key=lambda offset: offset.within_s)


def judge(offsets: Mapping[Node, Offset]) -> Iterable[Finding]:
    """Holds each clock against the middle one, the driver's among them, so that a single wrong one is told as such."""
    middle = median([0.0, *(offset.ahead_s for offset in offsets.values())])
    for where, offset in [("driver", Offset(0.0, 0.0)), *((node.name, offset) for node, offset in offsets.items())]:
        ahead_s = offset.ahead_s - middle
        told = (
            f"{abs(ahead_s):.3f} s {'ahead of' if ahead_s > 0 else 'behind'} the middle clock ± {offset.within_s:.3f} s"
        )
        certain_s = abs(ahead_s) - offset.within_s
        if certain_s > _BORNE_S:
            seen = f"{told}: heartbeats bear {_BORNE_S:g} s, and beyond a run that lives is told as dead"
            yield Finding(_NAME, "error", where, seen, _FIX)
        elif certain_s > _GOOD_S:
            yield Finding(_NAME, "warning", where, f"{told}, more than {_GOOD_S:g} s", _FIX)
        elif where != "driver":
            yield Finding(_NAME, "ok", where, told)


CHECK = Check(
    _NAME,
    f"Clocks differ by less than heartbeats bear, {_BORNE_S:g} s (error), and than {_GOOD_S:g} s (warning)",
    examine,
)
