"""Whether the GPUs that are asked for are there, and whether driver, Ray and torch agree on them."""

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from cluster.doctor.check import Check
from cluster.doctor.finding import EVERYWHERE, Finding
from cluster.doctor.node import Node
from cluster.doctor.patient import Patient

__all__ = ["CHECK", "Devices", "examine", "judge", "judge_count", "look"]

_NAME = "GPUs"
_ASK = ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
_ASKED_WITHIN_S = 15
_NEEDED_DRIVER = {11: (450, 80), 12: (525, 60), 13: (580, 65)}
"""Of Linux, by the major version of CUDA that torch was built for:
https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/index.html, table 2."""


@dataclass(frozen=True)
class Devices:
    """What a node says of its GPUs.

    Attributes:
        names: Of each GPU that the driver lists.
        driver: The driver's version; empty where none was told.
        num_files: Device files of NVIDIA's driver, /dev/nvidia0 and so on.
        complaint: Why the driver could not be asked though there are device files; else empty.
        torch_cuda: The version of CUDA that torch is built for; empty for a build without.
    """

    names: tuple[str, ...]
    driver: str
    num_files: int
    complaint: str
    torch_cuda: str


def look() -> Devices:
    """The GPUs of this node; torch is not imported for it."""
    num_files = sum(1 for _ in Path("/dev").glob("nvidia[0-9]*"))
    rows, complaint = _ask_driver()
    return Devices(
        names=tuple(name for name, _ in rows),
        driver=rows[0][1] if rows else "",
        num_files=num_files,
        complaint=complaint if num_files else "",
        torch_cuda=_torch_cuda(),
    )


def _ask_driver() -> tuple[list[tuple[str, str]], str]:
    """Name and driver of each GPU, and why there are none."""
    if shutil.which(_ASK[0]) is None:
        return [], "nvidia-smi is not there"
    try:
        done = subprocess.run(_ASK, capture_output=True, text=True, check=False, timeout=_ASKED_WITHIN_S)
    except subprocess.TimeoutExpired:
        return [], f"nvidia-smi does not answer within {_ASKED_WITHIN_S} s"
    if done.returncode != 0:
        return [], " ".join(f"nvidia-smi: {done.stdout} {done.stderr}".split())
    cells = [line.rsplit(",", 1) for line in done.stdout.splitlines() if "," in line]
    return [(name.strip(), driver.strip()) for name, driver in cells], ""


def _torch_cuda() -> str:
    spec = find_spec("torch")
    places = (spec.submodule_search_locations or []) if spec is not None else []
    for file in (Path(place, "version.py") for place in places):
        if file.is_file() and (found := re.search(r"^cuda\b.*=\s*'([\d.]+)'", file.read_text(), re.MULTILINE)):
            return found[1]
    return ""


def examine(patient: Patient) -> list[Finding]:
    """See the judges."""
    seen, findings = patient.look(_NAME, look, within_s=_ASKED_WITHIN_S + 5)
    findings += judge_count(patient.asked.num_gpus, patient.nodes)
    return findings + [finding for node, devices in seen.items() for finding in judge(node, devices)]


def judge_count(asked: int, nodes: Sequence[Node]) -> Iterable[Finding]:
    """Holds the GPUs that Ray hands out against those that are asked for."""
    told = sum(node.num_gpus for node in nodes)
    if told < asked:
        fix = (
            "start nodes with GPUs, or anew with --num-gpus where Ray did not find theirs (in containers: the NVIDIA "
            "container toolkit, `nvidia.com/gpu` in a pod's limits); or ask for fewer in your jobs"
        )
        yield Finding(_NAME, "error", EVERYWHERE, f"{asked} GPUs are asked for, the cluster has {told:g}", fix)
    else:
        yield Finding(_NAME, "ok", EVERYWHERE, f"the cluster has {told:g} GPUs, {asked} are asked for")


def judge(node: Node, devices: Devices) -> Iterable[Finding]:
    """Holds Ray, the driver and torch of one node against each other; nothing where it has no GPU and needs none."""
    driver_fix = "install NVIDIA's driver on the node (in a container: on its host, with the container toolkit)"
    if devices.complaint:
        told = f"{devices.num_files} devices are in /dev, but the driver does not answer: {devices.complaint}"
        yield Finding(_NAME, "error", node.name, told, driver_fix)
        return
    count = len(devices.names)
    if node.num_gpus > count:
        told = f"Ray hands out {node.num_gpus:g} GPUs, the driver lists {count}"
        yield Finding(_NAME, "error", node.name, told, f"start the node with the right --num-gpus, or {driver_fix}")
    elif node.num_gpus < count:
        told = f"the driver lists {count} GPUs, Ray hands out {node.num_gpus:g}: the others stand idle"
        yield Finding(_NAME, "warning", node.name, told, f"start the node with --num-gpus={count}")
    if not count:
        return
    if not devices.torch_cuda:
        told = f"{count} GPUs ({devices.names[0]}), but torch is built without CUDA"
        yield Finding(_NAME, "error", node.name, told, "install torch's build for CUDA on this node")
        return
    needed = _needed(devices.torch_cuda)
    if needed is not None and _numbers(devices.driver)[:2] < needed:
        told = (
            f"driver {devices.driver} is too old for CUDA {devices.torch_cuda} of torch, which needs "
            f"{'.'.join(map(str, needed))}"
        )
        yield Finding(_NAME, "error", node.name, told, f"a newer driver, or torch for an older CUDA: {driver_fix}")
    else:
        told = f"{count} GPUs ({devices.names[0]}), driver {devices.driver} for CUDA {devices.torch_cuda} of torch"
        yield Finding(_NAME, "ok", node.name, told)


def _needed(cuda: str) -> tuple[int, ...] | None:
    """The oldest driver that serves; None for a CUDA whose need is not known here."""
    return _NEEDED_DRIVER.get(int(cuda.partition(".")[0]))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


CHECK = Check(
    _NAME,
    "As many GPUs as are asked for, the same by Ray and by the driver, which is new enough for torch (error)",
    examine,
)
