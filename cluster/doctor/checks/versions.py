"""Whether all nodes have what the driver has, and what this package is pinned to."""

import platform
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import distributions
from pathlib import Path

from cluster.doctor.check import Check
from cluster.doctor.finding import Finding
from cluster.doctor.node import Node
from cluster.doctor.patient import Patient

__all__ = ["CHECK", "examine", "installed", "judge", "pinned"]

_NAME = "versions"
_MUST_AGREE = ("python", "ray", "torch", "deepspeed", "transformers", "pyarrow")
"""A job whose processes differ in these fails, or computes something else on each node."""
_CONSTRAINTS = Path(__file__).parents[3] / "constraints.txt"
_LISTED = 5
_FIX = (
    "build every node's environment from one constraints.txt (`pip install -c constraints.txt …`, or one image), and "
    "start its Ray anew"
)


def installed() -> dict[str, str]:
    """Version of Python and of each package that this process would import, by normalized name."""
    found = {"python": platform.python_version()}
    for distribution in distributions():  # the first of a name is the one that is imported
        name, version = distribution.metadata["Name"], distribution.version
        if name and version:
            found.setdefault(_normalized(name), _public(version))
    return found


def pinned(path: Path = _CONSTRAINTS) -> dict[str, str]:
    """What constraints.txt pins, by normalized name; nothing where it is not beside this package."""
    if not path.is_file():
        return {}
    lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    return {_normalized(name): _public(version) for name, _, version in (x.partition("==") for x in lines) if version}


def _normalized(name: str) -> str:
    """As PEP 503 has it: https://peps.python.org/pep-0503/#normalized-names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _public(version: str) -> str:
    """Without its local part: torch's `+cpu` and `+cu130` are builds of one version."""
    return version.partition("+")[0]


def examine(patient: Patient) -> list[Finding]:
    """See `judge`."""
    seen, findings = patient.look(_NAME, installed, within_s=20)
    return [*findings, *judge(pinned(), installed(), seen)]


def judge(
    pins: Mapping[str, str], driver: Mapping[str, str], seen: Mapping[Node, Mapping[str, str]]
) -> Iterable[Finding]:
    """Holds each node against the driver and the pins. A pinned package that a node lacks may not be needed there."""
    yield from _against_pins("driver", pins, driver)
    for node, versions in seen.items():
        wrong = [
            f"{name} is {versions.get(name, 'absent')}, the driver's {driver[name]}"
            for name in _MUST_AGREE
            if name in driver and versions.get(name) != driver[name]
        ]
        if wrong:
            yield Finding(_NAME, "error", node.name, "; ".join(wrong), _FIX)
        others = {name: pin for name, pin in pins.items() if name not in _MUST_AGREE}
        differing = list(_against_pins(node.name, others, versions))
        yield from differing
        if not wrong and not differing:
            alike = f"{', '.join(_MUST_AGREE)} are the driver's"
            yield Finding(_NAME, "ok", node.name, f"{alike}; {len(pins)} pins hold" if pins else alike)


def _against_pins(where: str, pins: Mapping[str, str], versions: Mapping[str, str]) -> Iterable[Finding]:
    wrong = [
        f"{name} {versions[name]} (pinned {pin})"
        for name, pin in sorted(pins.items())
        if versions.get(name, pin) != pin
    ]
    if wrong:
        more = f" and {len(wrong) - _LISTED} more" if len(wrong) > _LISTED else ""
        seen = f"{len(wrong)} of {len(pins)} packages are not as pinned: {', '.join(wrong[:_LISTED])}{more}"
        yield Finding(_NAME, "warning", where, seen, _FIX)


CHECK = Check(
    _NAME,
    "Python, Ray, torch, DeepSpeed, transformers and pyarrow are the driver's on every node (error), and what "
    "constraints.txt pins is as pinned (warning)",
    examine,
)
