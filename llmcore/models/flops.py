"""The FLOPs of a model, from its matrices."""

from typing import Any

from torch import nn

from llmcore.cost.flops import training_flops_per_token
from llmcore.models.initialize import whole_shape

__all__ = ["training_flops"]


def training_flops(model: nn.Module, attended_tokens: float) -> float:
    """FLOPs of one token in training; `attended_tokens`: mean over tokens of their document's length.

    The model may be whole or in shares. Of an encoder-decoder every token is counted in both stacks: an upper bound.
    """
    named: Any = model
    head = named.get_output_embeddings()
    looked_up = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    # Look-ups multiply nothing; a head does, also where its matrix is that of a look-up.
    matrices = [
        parameter
        for parameter in model.parameters()
        if len(whole_shape(parameter)) >= 2
        and (id(parameter) not in looked_up or (head is not None and parameter is head.weight))
    ]
    return training_flops_per_token(
        num_matmul_parameters=sum(whole_shape(parameter).numel() for parameter in matrices),
        num_frozen=sum(whole_shape(parameter).numel() for parameter in matrices if not parameter.requires_grad),
        num_layers=named.config.num_hidden_layers,
        hidden_size=named.config.hidden_size,
        attended_tokens=attended_tokens,
    )
