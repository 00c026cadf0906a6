"""Which number format a run trains in."""

import torch
from torch import distributed

from llmcore.config.train import TrainSettings
from llmcore.cost.devices import Precision

__all__ = ["DTYPES", "Precision", "resolve_precision"]

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""What the model computes in; the masters are fp32 in each."""


def _multiplies_bf16() -> bool:
    """Whether this process's hardware multiplies bf16 natively (emulation is slower than fp32)."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def resolve_precision(settings: TrainSettings) -> Precision:
    """The precision all ranks agree on: `auto` is bf16 only where every rank has it. A collective."""
    if settings.precision != "auto":
        return settings.precision
    everywhere = torch.tensor(float(_multiplies_bf16() and settings.zero_stage > 0))
    if torch.cuda.is_available():
        everywhere = everywhere.cuda()
    distributed.all_reduce(everywhere, op=distributed.ReduceOp.MIN)
    return "bf16" if everywhere.item() else "fp32"
