"""The energy that a GPU has taken, where its driver tells it."""

from importlib import import_module
from typing import Any

__all__ = ["EnergyMeter"]


class EnergyMeter:
    """Joules since it was made, by the counter of NVIDIA's driver (NVML, Volta and later; package `nvidia-ml-py`)."""

    def __init__(self, uuid: str | None) -> None:
        """`uuid` is the GPU's, `GPU-…`; None: a device that tells nothing, as a CPU does of one process."""
        self._counter = None if uuid is None else _counter(uuid)
        self._began = self._read()

    def joules(self) -> float | None:
        """What was taken since; None where nobody tells."""
        now = self._read()
        return None if now is None or self._began is None else now - self._began

    def _read(self) -> float | None:
        if self._counter is None:
            return None
        nvml, handle = self._counter
        try:
            return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
        except nvml.NVMLError:  # an older GPU, or one that is shared out (MIG)
            return None


def _counter(uuid: str) -> tuple[Any, Any] | None:
    """NVML and its name for the GPU; None without the package, or where the driver does not know it."""
    try:
        nvml = import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        return nvml, nvml.nvmlDeviceGetHandleByUUID(uuid)
    except nvml.NVMLError:
        return None
