"""Frozen matrices of 4 bits under LoRA's (QLoRA, Dettmers et al. 2023, arXiv 2305.14314), by bitsandbytes."""

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from llmcore.errors import ConfigError

__all__ = ["check_quantizable", "computed_dtype", "dequantized", "quantize"]


def check_quantizable() -> None:
    """Raises ConfigError where this process has no GPU, or bitsandbytes is not there."""
    if not torch.cuda.is_available():
        raise ConfigError("method.name=qlora needs a GPU in each worker, and this one has none: use name=lora")
    if find_spec("bitsandbytes") is None:
        raise ConfigError(
            "method.name=qlora needs bitsandbytes: install the extra, `pip install 'llmcore[qlora]'`, on every node"
        )


def quantize(model: nn.Module, targets: list[str]) -> None:
    """Exchanges linear layers for ones whose weights are NormalFloats of 4 bits as soon as they are on a GPU.

    The scales of their blocks are quantized as well. Layers whose number format the model looks at, as T5 does at that
    of its `wo`, stay as they are. Raises ConfigError for layers of another kind, GPT-2's.
    """
    from bitsandbytes.nn import Linear4bit, Params4bit

    kept = set(getattr(model, "_keep_in_fp32_modules", None) or ())
    for name in targets:
        path, _, attribute = name.rpartition(".")
        if attribute in kept:
            continue
        layer = model.get_submodule(name)
        if not isinstance(layer, nn.Linear):
            raise ConfigError(f"method.name=qlora: {name} is a {type(layer).__name__}, not a Linear: use name=lora")
        with torch.device("meta"):
            small = Linear4bit(layer.in_features, layer.out_features, bias=layer.bias is not None, quant_type="nf4")
        small.weight = Params4bit(layer.weight.detach(), requires_grad=False, quant_type="nf4")
        small.bias = layer.bias
        setattr(model.get_submodule(path), attribute, small)


def dequantized(weight: Tensor) -> Tensor:
    """A weight as the model computes with it; itself where it is not quantized."""
    state: Any = getattr(weight, "quant_state", None)
    if state is None:
        return weight
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(weight, state)  # type: ignore[no-any-return]


def computed_dtype(weight: Tensor) -> torch.dtype:
    """The number format that a weight is `dequantized` to."""
    state: Any = getattr(weight, "quant_state", None)
    return state.dtype if state is not None else weight.dtype
