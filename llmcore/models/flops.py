"""The FLOPs of a model, from its matrices: which of them multiply at each token, which at targets alone."""

from collections.abc import Iterator
from typing import Any, Literal

from torch import nn
from transformers.pytorch_utils import Conv1D

from llmcore.cost.flops import ModelFlops, Work
from llmcore.models.layers import fed_with_gradients, layers_of, stacks_of
from llmcore.models.packed import backbone

__all__ = ["model_flops"]

Place = Literal["read", "written", "predicted", "pooled"]
_POOLED = {"pooler", "seq_relationship"}
"""What reads one state of a document, by its name in transformers."""
_CROSSING = {"EncDecAttention", "encoder_attn"}
_OF_WHAT_IS_READ = {"k", "v", "k_proj", "v_proj"}
"""A decoder's keys and values of what the encoder has read."""
_FIRST = {*_OF_WHAT_IS_READ, "q", "q_proj", "query", "key", "value", "c_attn", "Wqkv"}
"""The matrices that read the input of a layer, or what its first norm makes of it."""
_BEFORE_CROSSING = {"SelfAttention", "self_attn", "q", "q_proj"}
_FIRST_NORMS = {"ln_1", "input_layernorm", "attn_norm", "layer_norm"}
_BEHIND_ANOTHER = ".lora_B.default"
"""Of an adapter's two matrices, that which reads what the other one wrote."""


def model_flops(model: nn.Module) -> ModelFlops:
    """FLOPs of a model for each unit of work; it may be whole, in shares, or laid out without memory."""
    named: Any = model
    config, body = named.config, backbone(model)
    both = bool(config.is_encoder_decoder)
    forward = dict.fromkeys(Work._fields, 0.0)
    training = dict(forward)
    passes = _Passes(model)
    for name, module in body.named_modules():
        if size := _multiplied(module):
            _count(forward, training, _place_in_body(name, both), 2.0 * size, passes.of_matrix(name, module))
    own = {id(module) for module in body.modules()}
    for name, module in _heads(named, own):
        place: Place = "pooled" if _names(name) & _POOLED else "predicted"
        _count(forward, training, place, 2.0 * _multiplied(module), passes.of_matrix(name, module))
    width = config.num_attention_heads * (getattr(config, "head_dim", None) or _head_dim(config))
    for stack, kinds in zip(stacks_of(body), _pairs(both), strict=True):
        for layer in stack:
            for kind in kinds:
                _count(forward, training, kind, 4.0 * width, passes.of_attention(layer, kind))
    return ModelFlops(Work(**forward), Work(**training))


class _Passes:
    """How many passes there are: one forward, and backward one for inputs and one for weights, where they are needed.

    Asked for the matrices in the order in which they stand in the model.
    """

    def __init__(self, model: nn.Module) -> None:
        layers = list(layers_of(model))
        self._layer = {id(module): id(layer) for layer in layers for module in layer.modules()}
        self._fed = {id(layer) for layer in fed_with_gradients(model)}
        self._trained = {id(layer) for layer in layers if any(each.requires_grad for each in layer.parameters())}
        normed = {
            id(layer)
            for layer in layers
            for name, each in layer.named_parameters()
            if each.requires_grad and _names(name) & _FIRST_NORMS
        }
        self._fed_within = self._fed | normed
        stacks = [list(stack) for stack in stacks_of(model)]
        # A decoder's layers are fed by the encoder, too.
        encodes = len(stacks) > 1 and any(id(layer) in self._fed | self._trained for layer in stacks[0])
        self._crossed = {id(layer) for layer in stacks[-1]} if encodes else set[int]()
        # What stands behind the layers is fed by them, and by what trains of itself before.
        self._behind = bool(self._fed | self._trained)

    def of_matrix(self, path: str, module: Any) -> float:
        layer, trains = self._layer.get(id(module)), bool(module.weight.requires_grad)
        if layer is None:
            is_fed = self._behind
            self._behind |= trains
        else:
            reads_input = _names(path) & _FIRST and not (path.endswith(_BEHIND_ANOTHER) or _names(path) & _CROSSING)
            behind_crossing = layer in self._crossed and not _names(path) & _BEFORE_CROSSING
            is_fed = layer in self._fed_within or (layer in self._trained and not reads_input) or behind_crossing
        return 1.0 + is_fed + trains

    def of_attention(self, layer: nn.Module, kind: str) -> float:
        fed = self._fed | self._trained | (self._crossed if kind == "crossed_pairs" else set())
        return 3.0 if id(layer) in fed else 1.0


def _count(forward: dict[str, float], training: dict[str, float], kind: str, flops: float, num_passes: float) -> None:
    forward[kind] += flops
    training[kind] += flops * num_passes


def _multiplied(module: nn.Module) -> int:
    """Elements of a module's matrix, by its features: its parameter may be in shares, or packed."""
    if isinstance(module, nn.Linear):
        return module.in_features * module.out_features
    if isinstance(module, Conv1D):
        return int(module.nx * module.nf)
    return 0


def _names(path: str) -> set[str]:
    return set(path.split("."))


def _place_in_body(path: str, both: bool) -> Place:
    names = path.split(".")
    if _names(path) & _POOLED:
        return "pooled"
    if path == "lm_head":  # T5's own, whose body is the model itself
        return "predicted"
    crosses = bool(_names(path) & _CROSSING) and bool(_names(path) & _OF_WHAT_IS_READ)
    return "written" if both and "decoder" in names and not crosses else "read"


def _heads(model: Any, own: set[int]) -> Iterator[tuple[str, nn.Module]]:
    """Matrices that stand on the body."""
    for name, module in model.named_modules():
        if id(module) not in own and _multiplied(module):
            yield name, module


def _head_dim(config: Any) -> int:
    return int(config.hidden_size // config.num_attention_heads)


def _pairs(both: bool) -> list[tuple[str, ...]]:
    """What the layers of each stack let meet."""
    return [("read_pairs",), ("written_pairs", "crossed_pairs")] if both else [("read_pairs",)]
