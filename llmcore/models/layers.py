"""The layers that a model repeats, and where in it a parameter stands."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import nn

from llmcore.models.packed import backbone

__all__ = ["Standing", "fed_with_gradients", "head_of", "layers_of", "stacks_of", "standings"]


def stacks_of(model: nn.Module) -> Iterator[nn.ModuleList]:
    """The outermost lists of modules: a transformer's blocks; those of an encoder-decoder are two."""
    for child in model.children():
        if isinstance(child, nn.ModuleList):
            yield child
        else:
            yield from stacks_of(child)


def layers_of(model: nn.Module) -> Iterator[nn.Module]:
    """What stands in such a list."""
    for stack in stacks_of(model):
        yield from stack


def fed_with_gradients(model: nn.Module) -> Iterator[nn.Module]:
    """The layers whose input has a gradient: something that trains stands before them."""
    places = standings(model)
    embeddings_train = any(places[id(p)].level == 0 for p in model.parameters() if p.requires_grad)
    for stack in stacks_of(model):
        fed = embeddings_train
        for layer in stack:
            if fed:
                yield layer
            fed = fed or any(parameter.requires_grad for parameter in layer.parameters())


class Standing(NamedTuple):
    """Where a parameter stands: 0 are the embeddings, then the layers by their numbers, and what is behind them."""

    level: int
    num_layers: int

    @property
    def depth(self) -> int:
        """How many levels it is below what stands behind all layers, which has 0."""
        return self.num_layers + 1 - self.level


def standings(model: nn.Module) -> dict[int, Standing]:
    """Of each parameter of a model, by its id; layers of an encoder-decoder are counted in their own stack.

    Embeddings are what is looked up, and what their names tell that stands by them: positions, norms.
    """
    body = backbone(model)
    stacks = list(stacks_of(body))
    most = max((len(stack) for stack in stacks), default=0)
    found = {id(parameter): Standing(most + 1, most) for parameter in model.parameters()}
    looked_up = {id(module.weight) for module in body.modules() if isinstance(module, nn.Embedding)}
    for name, parameter in body.named_parameters():
        if "embed" in name or id(parameter) in looked_up:
            found[id(parameter)] = Standing(0, most)
    for stack in stacks:
        for number, layer in enumerate(stack, start=1):
            found |= {id(parameter): Standing(number, len(stack)) for parameter in layer.parameters()}
    return found


def head_of(model: nn.Module) -> set[int]:
    """Ids of the parameters that stand on the backbone; of T5, which has none, of its output where that is its own."""
    named: Any = model
    output = named.get_output_embeddings()
    own = [output.weight] if output is not None and output.weight is not named.get_input_embeddings().weight else []
    body = {id(parameter) for parameter in backbone(model).parameters()} - {id(weight) for weight in own}
    return {id(parameter) for parameter in model.parameters()} - body
