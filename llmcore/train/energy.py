"""The energy that the devices of all ranks have taken, where their drivers tell it."""

import torch
from torch import distributed

from llmcore.cost.energy import EnergyMeter
from llmcore.train.summed import Summed

__all__ = ["RanksEnergy"]


class RanksEnergy:
    """Joules of all ranks' devices since it was made."""

    def __init__(self, device: torch.device) -> None:
        """`device` is this rank's."""
        self._device = device
        self._meter = EnergyMeter(_uuid(device))

    def joules(self) -> float | None:
        """Of all of them together; None where one does not tell. A collective."""
        own = self._meter.joules()
        told = torch.tensor([own or 0.0, own is not None], dtype=torch.float64)
        total, num_telling = Summed(told, self._device).values()
        return total if num_telling == distributed.get_world_size() else None


def _uuid(device: torch.device) -> str | None:
    """What its driver calls a GPU; None of a CPU."""
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}" if device.type == "cuda" else None
