"""One examination: hands on every node, all checks at once, findings in the order of the checks."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cluster.connect import Session
from cluster.doctor.check import Check
from cluster.doctor.checks import CHECKS
from cluster.doctor.finding import EVERYWHERE, SEVERITIES, Finding
from cluster.doctor.hands import Hands
from cluster.doctor.node import Node, living_nodes
from cluster.doctor.patient import Asked, Patient, ranks_of

__all__ = ["Report", "examine", "run_check"]

_ANSWERS_WITHIN_S = 30.0
_ANSWERS = "nodes"


@dataclass(frozen=True)
class Report:
    """What was found, and how long it took.

    Attributes:
        address: `host:port` of the cluster.
        nodes: Names of the nodes that Ray says are alive.
        seconds: Of the examination, without connecting.
        findings: In the order of the checks.
    """

    address: str
    nodes: tuple[str, ...]
    seconds: float
    findings: tuple[Finding, ...]


def examine(session: Session, asked: Asked, checks: Sequence[Check] = CHECKS) -> Report:
    """Examine the connected cluster. What fails or hangs on a node is a finding; nothing is raised for it."""
    began = time.monotonic()
    nodes = living_nodes()
    hands, ranks = Hands(nodes), Hands(ranks_of(nodes), with_gpu=True)
    try:
        findings = _who_answers(hands)
        ranks.keep([node for node in ranks.nodes if any(node.id == well.id for well in hands.nodes)])
        patient = Patient(asked, session.address, _dashboard_address(), hands, ranks)
        with ThreadPoolExecutor(len(checks)) as pool:
            for found in pool.map(lambda check: run_check(check, patient), checks):
                findings += found
    finally:
        hands.let_go()
        ranks.let_go()
    return Report(session.address, tuple(node.name for node in nodes), time.monotonic() - began, tuple(findings))


def _dashboard_address() -> str:
    """`host:port` of the connected cluster's dashboard; empty where it has none."""
    from ray._private.worker import get_dashboard_url

    return get_dashboard_url() or ""


def run_check(check: Check, patient: Patient) -> list[Finding]:
    """What a check finds, the worst first; one that fails itself is a finding, and keeps no other from its work."""
    try:
        return sorted(check.examine(patient), key=lambda finding: -SEVERITIES.index(finding.severity))
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        fix = "this is a fault of the doctor's: report it with this line"
        return [Finding(check.name, "unknown", EVERYWHERE, f"the check itself failed: {reason}", fix)]


def _who_answers(hands: Hands) -> list[Finding]:
    """Whether each node runs a task; those that do not are given up."""
    answers = hands.ask_all(_answer, within_s=_ANSWERS_WITHIN_S)
    well = [node for node, answer in answers.items() if not answer.trouble]
    hands.keep(well)
    findings = [
        Finding(
            _ANSWERS,
            "error",
            node.name,
            f"runs no task: {answer.trouble}",
            "look there at raylet.err and python-core-worker-*.log in session_latest/logs of Ray's temporary folder, "
            "or take the node away",
        )
        for node, answer in answers.items()
        if answer.trouble
    ]
    return findings or [Finding(_ANSWERS, "ok", EVERYWHERE, f"all {len(well)} nodes run tasks: {_names(well)}")]


def _answer() -> bool:
    return True


def _names(nodes: Sequence[Node]) -> str:
    named = ", ".join(node.name for node in nodes[:8])
    return named if len(nodes) <= 8 else f"{named}, …"
