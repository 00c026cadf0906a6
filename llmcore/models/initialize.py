"""A model's weights, made one after another: the same for a seed whatever the ranks, the ZeRO stage or the device.

A model is laid out on the meta device, where tensors have a shape and no memory. Then each parameter is made by itself,
from a folder or by transformers' own rules, and handed to where it lives: with ZeRO-3 that is a share on each rank, so
that no rank ever holds more than its shares and one parameter.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.initialization import no_tie_weights

__all__ = ["Home", "Stored", "drawing", "laid_out", "materialize", "whole_shape"]

Home = Callable[[nn.Module], Callable[[nn.Parameter], None]]
"""For a model that is laid out, what takes each finished parameter to where it lives. Afterwards that may hold a share
of itself."""


class Stored(Protocol):
    """Weights that are there already."""

    def whole(self, name: str) -> bool:
        """Whether all of a parameter is stored, so that it need not be initialized before it is filled."""

    def fill(self, name: str, parameter: Tensor) -> None:
        """Overwrites a parameter with what is stored of it, if anything is."""


def laid_out(make: Callable[[], PreTrainedModel]) -> PreTrainedModel:
    """The model that `make` builds, on the meta device, its tied weights not yet tied."""
    with torch.device("meta"), no_tie_weights():
        return make()


def materialize(model: PreTrainedModel, *, seed: int, home: Home | None = None, stored: Stored | None = None) -> None:
    """Gives each parameter and buffer of a model that was `laid_out` its values, and ties what is tied.

    A parameter that is not stored gets what transformers' `_init_weights` gives it, drawn on the CPU by a generator of
    its own, keyed by the seed and its name. Without a `home` each rank holds the model whole.
    """
    take_home = home(model) if home is not None else None
    finished: dict[str, Tensor] = {}
    for name, blank in [*model.named_parameters(), *model.named_buffers()]:
        if name in model.all_tied_weights_keys:
            continue  # it will be the tensor that it is tied to
        tensor: Tensor = torch.empty_like(blank, device="cpu")
        if isinstance(blank, nn.Parameter):
            tensor = nn.Parameter(tensor, requires_grad=blank.requires_grad)
        with torch.no_grad():
            if stored is None or not stored.whole(name):
                _draw(model, name, tensor, seed)
            if stored is not None:
                stored.fill(name, tensor)
        if take_home is not None and isinstance(tensor, nn.Parameter):
            take_home(tensor)
        finished[name] = tensor
    for name, tensor in finished.items():
        _put(model, name, tensor)
    model.tie_weights(recompute_mapping=False)


@contextmanager
def drawing(seed: int, name: str) -> Iterator[None]:
    """The CPU's random numbers are those of a seed and a name inside; outside, they go on as if nothing had been."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    with torch.random.fork_rng(devices=[]):
        # Not `torch.manual_seed`, which would seed the GPUs as well.
        torch.default_generator.manual_seed(int.from_bytes(digest[:8], "big", signed=True))
        yield


def whole_shape(parameter: nn.Parameter) -> torch.Size:
    """The shape of a parameter, also where this rank holds a share of it, or its elements are packed."""
    packed: Any = getattr(parameter, "quant_state", None)
    shape: torch.Size = packed.shape if packed is not None else getattr(parameter, "ds_shape", parameter.shape)
    return shape


def _draw(model: PreTrainedModel, name: str, tensor: Tensor, seed: int) -> None:
    """Lets transformers' rules write a tensor: that of its module, then those of the modules around it.

    A parent may draw its children's weights again, as GPT-2 its projections. All other tensors are on the meta device
    meanwhile, where it costs nothing that the rules write them too.
    """
    blank = model.get_parameter_or_buffer(name)
    written = tensor._version
    _put(model, name, tensor)
    with drawing(seed, name):
        for rules, module in _around(model, name):
            rules._init_weights(module)
    _put(model, name, blank)
    if tensor._version == written:
        raise ValueError(f"transformers has no rule for {name}: its values would be what its memory held before")


def _around(model: PreTrainedModel, name: str) -> list[tuple[PreTrainedModel, nn.Module]]:
    """The modules that a tensor is in, innermost first, each with the model whose rules it follows."""
    found: list[tuple[PreTrainedModel, nn.Module]] = [(model, model)]
    for child in name.split(".")[:-1]:
        rules, module = found[-1]
        inner = module.get_submodule(child)
        found.append((inner if isinstance(inner, PreTrainedModel) else rules, inner))
    return found[::-1]


def _put(model: nn.Module, name: str, tensor: Tensor) -> None:
    path, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(path), attribute, tensor)
