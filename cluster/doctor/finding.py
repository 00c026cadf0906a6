"""What a check has found: how bad it is, what was seen and where, and what helps."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = ["EVERYWHERE", "SEVERITIES", "Finding", "Severity", "exit_code"]

Severity = Literal["ok", "unknown", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = ("ok", "unknown", "warning", "error")
"""From the least to the worst. `unknown`: it was not looked at, and why not."""

EVERYWHERE = "cluster"
"""Where a finding is that belongs to no single node."""


@dataclass(frozen=True)
class Finding:
    """One sentence of the doctor.

    Attributes:
        check: Name of the check.
        severity: How bad it is.
        where: The node's name, two of them, `driver`, or `cluster`.
        seen: What was seen, with the number and the bound it was held against.
        fix: What helps; empty where nothing needs to.
    """

    check: str
    severity: Severity
    where: str
    seen: str
    fix: str = ""


def exit_code(findings: Iterable[Finding]) -> int:
    """1 where there is an error, else 0: warnings, and what could not be looked at, keep no job from starting."""
    return int(any(finding.severity == "error" for finding in findings))
