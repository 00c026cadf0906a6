"""LoRA's matrices beside a model's own (Hu et al. 2021, arXiv 2106.09685), by peft's layers.

The model stays what it was, with peft's layers in the places of its linear ones, and not inside of peft's own model: so
heads, attention inside documents, and ZeRO-3, at which the base is in shares before there is an adapter, are as ever.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from llmcore.config.method import MethodSettings
from llmcore.errors import ConfigError
from llmcore.models.initialize import Home, drawing
from llmcore.models.layers import stacks_of
from llmcore.models.packed import backbone

__all__ = [
    "PlainWeight",
    "adapter_config",
    "adapter_weights",
    "add_adapters",
    "check_installed",
    "has_adapters",
    "plain_weights",
    "targets_of",
]

_NAME = "default"
_BASE = ".base_layer."
_OURS = re.compile(rf"\.lora_[AB]\.{_NAME}\.")
_PEFT_ROOT = "base_model.model."
"""What peft writes before each name in its files."""


def check_installed() -> None:
    """Raises ConfigError where peft is not there."""
    if find_spec("peft") is None:
        raise ConfigError(
            "method.name=lora needs peft: install the extra, `pip install 'llmcore[lora]'`, on every node"
        )


def targets_of(model: nn.Module, method: MethodSettings) -> list[str]:
    """Names of the linear layers that get adapters: in the backbone's layers, behind the frozen ones.

    Raises ConfigError where a name of `target_modules` is none of them.
    """
    layers = {id(layer) for stack in stacks_of(backbone(model)) for layer in list(stack)[method.frozen_layers :]}
    linear = [
        f"{path}.{name}"
        for path, layer in model.named_modules()
        if id(layer) in layers
        for name, module in layer.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    ]
    if method.target_modules is None:
        return linear
    for wanted in method.target_modules:
        if not any(_ends(name, wanted) for name in linear):
            there = sorted({name.rpartition(".")[2] for name in linear})
            raise ConfigError(
                f"method.target_modules={wanted!r} is no linear layer of the model's layers that train: there are "
                f"{', '.join(there) or 'none'}"
            )
    return [name for name in linear if any(_ends(name, wanted) for wanted in method.target_modules)]


def _ends(name: str, wanted: str) -> bool:
    return f".{name}".endswith(f".{wanted}")


def add_adapters(
    model: nn.Module, method: MethodSettings, targets: list[str], *, seed: int, home: Home | None = None
) -> None:
    """Puts peft's layers in the places of the named ones: A is random, B is 0, so that the model says what it said.

    Random numbers are drawn on the CPU by generators keyed by the seed and the layer's name.
    """
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import LoraLayer

    if not targets:
        raise ConfigError(f"method.name={method.name}: no linear layer is left for adapters; freeze fewer layers")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    config = LoraConfig(
        r=method.rank,
        lora_alpha=method.alpha,
        lora_dropout=method.dropout,
        target_modules=targets,
        fan_in_fan_out=isinstance(model.get_submodule(targets[0]), Conv1D),
    )
    inject_adapter_in_model(config, model, _NAME, low_cpu_mem_usage=True)
    for parameter in trained:
        parameter.requires_grad_()  # peft has frozen all but its own
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)]
    take_home = home(model) if home is not None else None
    for name, layer in layers:
        for part in (layer.lora_A[_NAME], layer.lora_B[_NAME]):
            part.weight = nn.Parameter(torch.empty_like(part.weight, device="cpu"))
        with drawing(seed, name):
            layer.reset_lora_parameters(_NAME, True)
        if take_home is not None:
            take_home(layer.lora_A[_NAME].weight)
            take_home(layer.lora_B[_NAME].weight)


def has_adapters(model: nn.Module) -> bool:
    """Whether a model has some."""
    return hasattr(model, "peft_config")


@dataclass(frozen=True)
class PlainWeight:
    """Of a weight that plain transformers has: the parameters that it is made of, by their names in the model.

    Attributes:
        base: The model's own, or frozen.
        low, high: LoRA's A, [rank, inputs], and B, [outputs, rank]; None where it has none.
        scale: What their product is multiplied by.
        transposed: Whether the base is [inputs, outputs], as GPT-2's are.
    """

    base: str
    low: str | None = None
    high: str | None = None
    scale: float = 1.0
    transposed: bool = False

    @property
    def parts(self) -> list[str]:
        """The parameters that it takes."""
        return [name for name in (self.base, self.low, self.high) if name is not None]

    def merged(self, base: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
        """The weight, in the base's number format."""
        if low is None or high is None:
            return base
        change = high.float() @ low.float()
        return torch.add(base.float(), change.T if self.transposed else change, alpha=self.scale).to(base.dtype)


def plain_weights(model: nn.Module) -> dict[str, PlainWeight]:
    """The weights that plain transformers has of the model, by its names for them; tied ones once."""
    found = {}
    for name, _ in model.named_parameters():
        if _OURS.search(name):
            continue
        plain = name.replace(_BASE, ".")
        if plain == name or not plain.endswith(".weight"):
            found[plain] = PlainWeight(name)
            continue
        path = plain.removesuffix(".weight")
        layer: Any = model.get_submodule(path)
        low, high = (f"{path}.lora_{part}.{_NAME}.weight" for part in "AB")
        found[plain] = PlainWeight(name, low, high, layer.scaling[_NAME], layer.fan_in_fan_out)
    return found


def adapter_weights(model: nn.Module) -> dict[str, PlainWeight]:
    """What peft's file of the adapter holds, by the names that it has there: nothing where there is none.

    These are the thin matrices, and the modules that train whole beside them.
    """
    if not has_adapters(model):
        return {}
    found = {name: name.replace(f".{_NAME}.", ".") for name, _ in model.named_parameters() if _OURS.search(name)}
    found |= {name: name for path in _trained_whole(model) for name in _own(model, path)}
    return {f"{_PEFT_ROOT}{stored}": PlainWeight(name) for name, stored in found.items()}


def adapter_config(model: nn.Module) -> bytes:
    """peft's `adapter_config.json`."""
    named: Any = model
    config = named.peft_config[_NAME].to_dict()
    config |= {"inference_mode": True, "modules_to_save": _trained_whole(model) or None}
    config["target_modules"] = sorted(config["target_modules"])
    return json.dumps(config, indent=2, sort_keys=True, default=list).encode()


def _trained_whole(model: nn.Module) -> list[str]:
    """Paths of the modules that have weights of their own that train, and are no adapters."""
    paths = [
        name.rpartition(".")[0]
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not _OURS.search(name)
    ]
    return sorted(set(paths))


def _own(model: nn.Module, path: str) -> Iterator[str]:
    own: Mapping[str, Any] = dict(model.get_submodule(path).named_parameters(recurse=False))
    return (f"{path}.{name}" for name in own)
