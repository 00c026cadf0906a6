"""What is done to a model's layers before it trains: activations computed anew, and code compiled."""

from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from llmcore.models.attention import ATTENTION
from llmcore.models.layers import layers_of

__all__ = ["checkpoint_activations", "compile_layers"]


def checkpoint_activations(model: nn.Module) -> None:
    """Keeps only each layer's input for the backward pass, and computes the rest anew there: the same numbers."""
    named: Any = model
    named.activation_checkpointing_enable({"use_reentrant": False})


def compile_layers(model: nn.Module) -> None:
    """Compiles each layer in place, once for all lengths: what is compiled of one layer serves all that are alike.

    Attention inside documents stays as it is: its shapes are the documents', and it is fast kernels already.
    """
    attention = ALL_ATTENTION_FUNCTIONS[ATTENTION]
    ALL_ATTENTION_FUNCTIONS.register(ATTENTION, torch.compiler.disable(attention))  # type: ignore[no-untyped-call]
    for layer in layers_of(model):
        layer.compile(dynamic=True)
