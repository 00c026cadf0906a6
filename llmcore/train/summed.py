"""A sum over all ranks that is under way; a stack that stands in this file waits for the others (the watchdog)."""

import torch
from torch import Tensor, distributed

__all__ = ["Summed"]


class Summed:
    """Begins a sum over all ranks, in double precision. A collective; the others meet in it when they get there."""

    def __init__(self, values: Tensor, device: torch.device) -> None:
        self._total = values.to(device, torch.float64)
        self._work = distributed.all_reduce(self._total, async_op=True)

    def tensor(self) -> Tensor:
        """The sums, on the device: on a CPU waited for, on a GPU by whatever reads them."""
        self._work.wait()
        return self._total

    def values(self) -> list[float]:
        """The sums, waited for on any device."""
        total: list[float] = self.tensor().tolist()
        return total
