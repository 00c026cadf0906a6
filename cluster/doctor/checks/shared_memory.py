"""Whether /dev/shm holds what is kept there: Ray's objects, and what DeepSpeed's ranks on a CPU exchange through."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass

from cluster.doctor.check import Check
from cluster.doctor.finding import Finding
from cluster.doctor.node import Node
from cluster.doctor.patient import Patient
from cluster.doctor.raylet import raylet_options
from cluster.doctor.units import size

__all__ = ["CHECK", "SharedMemory", "examine", "judge", "look"]

_NAME = "shared memory"
_SHM = "/dev/shm"
_BESIDE = 128 * 2**20
"""For two ranks of DeepSpeed on a CPU, which take 66 MB each (0.19.8), or NCCL's buffers."""


@dataclass(frozen=True)
class SharedMemory:
    """Bytes of /dev/shm, and the folder in which the node's object store lies."""

    total: int
    free: int
    object_store_in: str


def look() -> SharedMemory:
    """The shared memory of this node."""
    usage = shutil.disk_usage(_SHM)
    return SharedMemory(usage.total, usage.free, raylet_options().get("plasma_directory", _SHM))


def examine(patient: Patient) -> list[Finding]:
    """See `judge`."""
    seen, findings = patient.look(_NAME, look)
    return findings + [finding for node, memory in seen.items() for finding in judge(node, memory)]


def judge(node: Node, memory: SharedMemory) -> Iterable[Finding]:
    """Holds /dev/shm against the object store that Ray has on this node."""
    store = size(node.object_store_bytes)
    needed = node.object_store_bytes + _BESIDE
    fix = (
        f"give it {size(needed)} or more (docker run --shm-size, an emptyDir of medium Memory at {_SHM} in a pod), or "
        "start the node with a smaller --object-store-memory"
    )
    if memory.object_store_in != _SHM or memory.total < node.object_store_bytes:
        lies = f"the object store of {store} lies in {memory.object_store_in}"
        yield Finding(_NAME, "error", node.name, f"{_SHM} has {size(memory.total)}, and {lies}", fix)
    elif memory.free < _BESIDE:
        seen = f"{_SHM} has {size(memory.free)} of {size(memory.total)} free, less than {size(_BESIDE)}"
        yield Finding(_NAME, "error", node.name, seen, f"delete what ended processes left there; or {fix}")
    elif memory.total < needed:
        seen = f"{_SHM} has {size(memory.total)}: an object store of {store}, and less than {size(_BESIDE)} beside it"
        yield Finding(_NAME, "warning", node.name, seen, fix)
    else:
        yield Finding(_NAME, "ok", node.name, f"{_SHM} has {size(memory.total)}, the object store {store} of it")


CHECK = Check(
    _NAME,
    f"{_SHM} holds the object store (error), and {size(_BESIDE)} for what DeepSpeed's ranks or NCCL exchange through",
    examine,
)
