"""Which parameters of a model a fine-tuning trains; all others are frozen, and have neither gradient nor moments."""

from typing import Any

from torch import nn

from llmcore.config.method import MethodSettings
from llmcore.errors import ConfigError
from llmcore.models.adapters import add_adapters, check_installed, targets_of
from llmcore.models.foundation import foundation_config
from llmcore.models.initialize import Home, laid_out
from llmcore.models.layers import head_of, stacks_of, standings
from llmcore.models.packed import backbone
from llmcore.models.quantized import check_quantizable, quantize
from llmcore.storage import Folder

__all__ = ["apply_method", "check_method"]


def check_method(method: MethodSettings, base: Folder) -> None:
    """Raises ConfigError for what can be known of a method before a worker starts; `base` has a `config.json`.

    The model is laid out on the meta device, without memory for it.
    """
    if method.has_adapters:
        check_installed()
    if method.has_adapters or method.frozen_layers:
        from transformers import AutoModel

        model = laid_out(lambda: AutoModel.from_config(foundation_config(base), trust_remote_code=False))
        _check_layers(model, method.frozen_layers)
        if method.has_adapters:
            targets_of(model, method)


def apply_method(model: nn.Module, method: MethodSettings, *, seed: int, home: Home | None = None) -> None:
    """Freezes what a method does not train of a model that has its weights, and gives it adapters where it has some.

    What the base model had no weights for, a new head, trains whatever the method. Adapters are the same for one seed,
    and go to their home as all parameters do. Raises ConfigError where the model has not what the method names.
    """
    _check_layers(model, method.frozen_layers)
    if method.trains_all:
        return
    learnt = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    match method.name:
        case "full":
            places = standings(model)
            learnt = {key for key in learnt if places[key].level > method.frozen_layers}
        case "head_only":
            learnt &= head_of(model) | _new(model)
            if not learnt:
                raise ConfigError(
                    "method.name=head_only: this model has no head of its own, its output is its embeddings' matrix; "
                    "use lora, or full with frozen_layers"
                )
        case _:
            learnt &= _new(model)
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in learnt)
    if method.has_adapters:
        targets = targets_of(model, method)
        if method.name == "qlora":
            check_quantizable()
            quantize(model, targets)
        add_adapters(model, method, targets, seed=seed, home=home)


def _check_layers(model: nn.Module, num_frozen: int) -> None:
    """Raises ConfigError where a stack has not so many layers."""
    for stack in stacks_of(backbone(model)):
        if num_frozen > len(stack):
            raise ConfigError(
                f"method.frozen_layers={num_frozen}: the model has {len(stack)} layers; freeze fewer, or all of them "
                "with name=head_only"
            )


def _new(model: nn.Module) -> set[int]:
    """Ids of the parameters that the base model has no weights for.

    Where all are random, it is the head, as it would be new on a base model; but not a language model's output.
    """
    named: Any = model
    weights: dict[str, list[str]] | None = getattr(model, "llmcore_weights", None)
    if weights is not None:
        initialized = set(weights["initialized"])
        return {id(parameter) for name, parameter in model.named_parameters() if name in initialized}
    output = named.get_output_embeddings()
    return head_of(model) - ({id(parameter) for parameter in output.parameters()} if output is not None else set())
