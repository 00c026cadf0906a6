"""What the memory that a model needs depends on: the sizes of its layers."""

from torch import nn

from llmcore.cost.memory import ModelSizes
from llmcore.models.initialize import whole_shape
from llmcore.models.layers import layers_of

__all__ = ["model_sizes"]

_LARGEST_VECTOR = 100_000


def model_sizes(model: nn.Module) -> ModelSizes:
    """Sizes of a model, whole or in shares, on any device; its tied weights are tied."""
    sizes = {id(parameter): whole_shape(parameter).numel() for parameter in model.parameters()}
    names: dict[int, int] = {}
    for _, parameter in model.named_parameters(remove_duplicate=False):
        names[id(parameter)] = names.get(id(parameter), 0) + 1
    blocks = [[id(parameter) for parameter in block.parameters()] for block in layers_of(model)]
    inside = {key for block in blocks for key in block}
    layers = [*blocks, *([key] for key in sizes if key not in inside)]
    vectors = [whole_shape(parameter).numel() for parameter in model.parameters() if len(whole_shape(parameter)) < 2]
    largest_vector = min(_LARGEST_VECTOR, max(vectors, default=0))
    return ModelSizes(
        num_parameters=sum(sizes.values()),
        largest_layer=max(sum(sizes[key] for key in layer) for layer in layers),
        largest_in_backward=max(sum(sizes[key] * (2 if names[key] == 1 else 4) for key in layer) for layer in layers),
        largest_vector=largest_vector,
        vectors=sum(size for size in sizes.values() if size <= largest_vector),
        num_trained=sum(sizes[id(parameter)] for parameter in model.parameters() if parameter.requires_grad),
    )
