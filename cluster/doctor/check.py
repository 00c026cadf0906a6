"""What a check is."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cluster.doctor.finding import Finding
from cluster.doctor.patient import Patient

__all__ = ["Check"]


@dataclass(frozen=True)
class Check:
    """One thing that may ail a cluster.

    Attributes:
        name: As it stands before each of its findings.
        looks_at: What it looks at, and the bounds it holds that against.
        examine: From a cluster to findings, at least one.
    """

    name: str
    looks_at: str
    examine: Callable[[Patient], Iterable[Finding]]
