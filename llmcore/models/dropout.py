"""Dropout on a CPU, where PyTorch's own takes a third of a forward pass: it draws each number by itself."""

import torch
from torch import Tensor, nn

__all__ = ["drop", "quicken_dropout"]

_STEPS = 1 << 16


def drop(given: Tensor, chance: float) -> Tensor:
    """What dropout leaves of a tensor on the CPU, scaled so that its mean is as it was.

    Chances are multiples of 2⁻¹⁶, so that four numbers are drawn at once, from PyTorch's generator.

    Args:
        given: of any shape and floating type.
        chance: of each element to become zero, from 0 to 1.
    """
    num_dropped = round(chance * _STEPS)
    if not 0 < num_dropped < _STEPS:
        return nn.functional.dropout(given, chance)
    drawn = torch.empty(-(-given.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
    kept = drawn.view(torch.int16)[: given.numel()] >= num_dropped - _STEPS // 2
    return given * kept.view(given.shape).to(given.dtype).mul_(_STEPS / (_STEPS - num_dropped))


class _QuickDropout(nn.Dropout):
    def forward(self, input: Tensor) -> Tensor:
        return drop(input, self.p) if self.training else input


def quicken_dropout(model: nn.Module) -> None:
    """Has the dropout layers of a model that trains on a CPU draw faster: in half the time, both passes together.

    What is dropped inside attention is not of these layers: see `llmcore.models.attention`.
    """
    for module in model.modules():
        if type(module) is nn.Dropout and not module.inplace:
            module.__class__ = _QuickDropout
