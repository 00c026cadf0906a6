"""Dropout on a CPU, where PyTorch's own takes a third of a forward pass: it draws each number by itself."""

import torch
from torch import Tensor, nn

__all__ = ["quicken_dropout"]

_STEPS = 1 << 16


class _QuickDropout(nn.Dropout):
    """`nn.Dropout` whose chances are multiples of 2⁻¹⁶: four numbers are drawn at once, from PyTorch's generator."""

    def forward(self, input: Tensor) -> Tensor:
        num_dropped = round(self.p * _STEPS)
        if not self.training or not 0 < num_dropped < _STEPS:
            return super().forward(input)
        drawn = torch.empty(-(-input.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
        kept = drawn.view(torch.int16)[: input.numel()] >= num_dropped - _STEPS // 2
        return input * kept.view(input.shape).to(input.dtype).mul_(_STEPS / (_STEPS - num_dropped))


def quicken_dropout(model: nn.Module) -> None:
    """Has the dropout layers of a model that trains on a CPU draw faster: in half the time, both passes together.

    What is dropped inside attention is not of these layers.
    """
    for module in model.modules():
        if type(module) is nn.Dropout and not module.inplace:
            module.__class__ = _QuickDropout
