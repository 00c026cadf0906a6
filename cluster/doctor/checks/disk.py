"""Whether there is room on the disks that a job writes to beside its storage."""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.doctor.check import Check
from cluster.doctor.finding import Finding
from cluster.doctor.node import Node
from cluster.doctor.patient import Patient
from cluster.doctor.units import size

__all__ = ["CHECK", "Place", "examine", "judge", "look"]

_NAME = "disk"
_GIB = 2**30
_ERROR_BELOW, _WARNING_BELOW = 1 * _GIB, 10 * _GIB
_FULL_FOR_RAY = 0.95
"""Where so much of its disk is in use, Ray spills nothing any more (`RAY_local_fs_capacity_threshold`)."""
_RAY = "Ray's temporary folder"
_FIXES = {
    _RAY: "delete old session_* folders there, or start the node with --temp-dir on a larger disk",
    "the package's cache": "delete what is in it (it is made anew), or set LLMCORE_CACHE to a folder on a larger disk",
    "the swap folder": "delete what is in it, or name a folder on a larger disk in train.offload.folder",
}


@dataclass(frozen=True)
class Place:
    """A folder, and its disk's bytes: all of them, and those an ordinary user may still write."""

    what: str
    path: str
    total: int
    free: int


def look(swap: str | None) -> list[Place]:
    """The folders of this node that a job writes to."""
    import ray

    from llmcore.storage.cache import cache_root

    folders = [(_RAY, Path(ray.get_runtime_context().get_temp_dir())), ("the package's cache", cache_root())]
    folders += [("the swap folder", Path(swap))] if swap else []
    return [_measured(what, path) for what, path in folders]


def _measured(what: str, path: Path) -> Place:
    there = next(folder for folder in (path, *path.parents) if folder.exists())  # it may be made by the first job
    usage = shutil.disk_usage(there)
    return Place(what, str(path), usage.total, usage.free)


def examine(patient: Patient) -> list[Finding]:
    """See `judge`."""
    seen, findings = patient.look(_NAME, look, patient.asked.swap)
    return findings + [finding for node, places in seen.items() for finding in judge(node, places)]


def judge(node: Node, places: Sequence[Place]) -> Iterable[Finding]:
    """Holds the free bytes of each folder's disk against the bounds; one finding where all have room."""
    short = [finding for place in places for finding in _judged(node, place)]
    least = min(places, key=lambda place: place.free)
    yield from short or [Finding(_NAME, "ok", node.name, f"at least {size(least.free)} free ({least.path})")]


def _judged(node: Node, place: Place) -> Iterable[Finding]:
    where = f"{place.what} ({place.path}) has {size(place.free)} of {size(place.total)} free"
    used = 1 - place.free / place.total if place.total else 1.0
    fix = _FIXES[place.what]
    if place.free < _ERROR_BELOW:
        yield Finding(_NAME, "error", node.name, f"{where}, less than {size(_ERROR_BELOW)}", fix)
    elif place.what == _RAY and used > _FULL_FOR_RAY:
        yield Finding(
            _NAME, "error", node.name, f"{where}: {used:.0%} in use, and above {_FULL_FOR_RAY:.0%} Ray spills none", fix
        )
    elif place.free < _WARNING_BELOW:
        yield Finding(_NAME, "warning", node.name, f"{where}, less than {size(_WARNING_BELOW)}", fix)


CHECK = Check(
    _NAME,
    f"Room for Ray's temporary files, the package's cache and the swap folder: {size(_ERROR_BELOW)} (error), "
    f"{size(_WARNING_BELOW)} (warning), and no more than {_FULL_FOR_RAY:.0%} of Ray's disk in use (error)",
    examine,
)
