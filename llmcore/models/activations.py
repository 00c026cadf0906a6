"""What a model's forward pass keeps for its backward pass, counted without memory for either."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from llmcore.models.layers import layers_of

__all__ = ["Activations", "count_activations"]


@dataclass(frozen=True)
class Activations:
    """Bytes that are kept for the backward pass.

    Attributes:
        outside: Outside of the layers: embeddings, the head, the loss.
        layers: In each of the layers, but for its input.
        inputs: Of all layers' inputs.
        largest: The largest tensor of what is outside, as large as its gradient.
    """

    outside: int
    layers: tuple[int, ...]
    inputs: int
    largest: int

    def held(self, *, checkpointing: bool) -> int:
        """At the end of the forward pass; `checkpointing` keeps of layers their inputs alone."""
        return self.outside + self.inputs + (0 if checkpointing else sum(self.layers))

    def peak(self, *, checkpointing: bool) -> int:
        """The most at once: as the gradient of the loss begins, or in a layer whose activations are computed anew."""
        within = max(self.layers, default=0) if checkpointing else 0
        return self.held(checkpointing=checkpointing) + max(self.largest, within)


def count_activations(model: nn.Module, loss: Callable[[Any], Tensor], batch: Any) -> Activations:
    """Runs a loss of a model that is laid out on the meta device, in the precision of its weights.

    Attention is counted as one kernel, which keeps its inputs, its output, and a number a query and head. Small things
    that kernels keep otherwise on one device or the other make less than a percent.

    Args:
        model: On the meta device.
        loss: What its forward pass makes of a batch.
        batch: Rows, on any device.
    """
    counter = _Counter(model)
    with counter, torch.autograd.graph.saved_tensors_hooks(counter.keep, lambda kept: kept):
        graph = loss(batch.to(torch.device("meta")))
    found = counter.found()
    del graph  # until now it held what it keeps; what no gradient comes from is gone
    return found


class _Counter:
    """Takes down each storage that lives once, where it is first kept; weights are no activations."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._seen = {_key(parameter): parameter.untyped_storage() for parameter in model.parameters()}
        self._inputs: dict[int, int] = {}
        self._kept: dict[int | None, dict[int, int]] = {None: {}}
        self._inside: int | None = None
        self._handles: list[Any] = []

    def __enter__(self) -> None:
        module: Any
        for module in self._model.modules():
            if hasattr(module, "warn_if_padding_and_no_attention_mask"):  # it would look at tokens, which are none
                module.warn_if_padding_and_no_attention_mask = lambda *_: None
        for number, layer in enumerate(layers_of(self._model)):
            self._kept[number] = {}
            self._handles += [
                layer.register_forward_pre_hook(
                    lambda _, args, named, number=number: self._enter(number, [*args, *named.values()]),
                    with_kwargs=True,
                ),
                layer.register_forward_hook(lambda *_: self._leave()),
            ]

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _enter(self, number: int, given: list[Any]) -> None:
        self._inside = number
        for tensor in tree_leaves(given):
            if isinstance(tensor, Tensor):
                self._inputs.setdefault(_key(tensor), tensor.untyped_storage().nbytes())
                self._seen[_key(tensor)] = tensor.untyped_storage()

    def _leave(self) -> None:
        self._inside = None

    def keep(self, tensor: Tensor) -> Tensor:
        key = _key(tensor)
        if key not in self._seen and not any(key in kept for kept in self._kept.values()):
            kept, storage = self._kept[self._inside], tensor.untyped_storage()
            kept[key] = storage.nbytes()
            weakref.finalize(storage, kept.pop, key, None)
        return tensor.detach()  # with its graph, an operation that keeps its own output would live for ever

    def found(self) -> Activations:
        outside = self._kept.pop(None)
        for key in self._inputs:
            outside.pop(key, None)
        return Activations(
            outside=sum(outside.values()),
            layers=tuple(sum(layer.values()) for layer in self._kept.values()),
            inputs=sum(self._inputs.values()),
            largest=max(outside.values(), default=0),
        )


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
