"""The layers that a model repeats."""

from collections.abc import Iterator

from torch import nn

__all__ = ["layers_of"]


def layers_of(model: nn.Module) -> Iterator[nn.Module]:
    """The outermost of what stands in a list of modules: a transformer's blocks."""
    for child in model.children():
        if isinstance(model, nn.ModuleList):
            yield child
        else:
            yield from layers_of(child)
