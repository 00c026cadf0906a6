"""Optimizers over a model's parameters, in groups. Imports DeepSpeed for Muon, which torch has without ZeRO alone."""

from typing import Any

import torch
from torch import nn

from llmcore.config.optimizer import OptimizerSettings
from llmcore.models.initialize import whole_shape
from llmcore.models.layers import standings
from llmcore.models.packed import backbone

__all__ = ["build_optimizer"]


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """AdamW, fused, also on the CPU; or DeepSpeed's Muon for hidden matrices with AdamW beside it.

    Each group has a `learning_rate_factor`: its own learning rate as a multiple of the schedule's.
    """
    if settings.kind == "muon":
        return _muon(model, settings)
    groups = _decay_groups(list(model.parameters()), model, settings)
    return torch.optim.AdamW(groups, **_adam(settings), fused=True)


def _adam(settings: OptimizerSettings) -> dict[str, Any]:
    return {"lr": settings.learning_rate, "betas": settings.betas, "eps": settings.epsilon}


def _decay_groups(
    parameters: list[nn.Parameter], model: nn.Module, settings: OptimizerSettings
) -> list[dict[str, Any]]:
    """Matrices decay, vectors (biases, norms) do not; heads and layers have rates of their own; no group is empty.

    A layer learns more slowly than the one behind it, as in ELECTRA (Clark et al. 2020, arXiv 2003.10555, A.2) and for
    BERT (Sun et al. 2019, arXiv 1905.05583, 5.3.4): what the first ones know is the same in most tasks.
    """
    body = {id(parameter) for parameter in backbone(model).parameters()}
    places = standings(model)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in parameters:
        if parameter.requires_grad:
            factor = 1.0 if id(parameter) in body else settings.head_learning_rate_factor
            factor *= settings.layer_learning_rate_decay ** places[id(parameter)].depth
            decay = settings.weight_decay if len(whole_shape(parameter)) >= 2 else 0.0
            groups.setdefault((factor, decay), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "learning_rate_factor": factor}
        for (factor, decay), parameters in groups.items()
    ]


def _muon(model: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) as DeepSpeed shards it.

    It is for matrices between embeddings and head; the rest is AdamW's.
    """
    from deepspeed.runtime.zero.muon.muon_optimizer import MuonWithAuxAdam

    ends = _embeddings_and_head(model)
    body = {id(parameter) for parameter in backbone(model).parameters()}
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for parameter in model.parameters():
        is_hidden = len(whole_shape(parameter)) == 2 and id(parameter) in body and id(parameter) not in ends
        parameter.use_muon = is_hidden  # type: ignore[attr-defined]  # DeepSpeed looks for it
        if parameter.requires_grad:
            (hidden if is_hidden else rest).append(parameter)
    muon = {
        "params": hidden,
        "use_muon": True,
        "lr": settings.muon_learning_rate,
        "momentum": settings.muon_momentum,
        "weight_decay": settings.weight_decay,
        "learning_rate_factor": settings.muon_learning_rate / settings.learning_rate,
    }
    adam = [{**group, **_adam(settings), "use_muon": False} for group in _decay_groups(rest, model, settings)]
    optimizer: torch.optim.Optimizer = MuonWithAuxAdam(
        [group for group in [muon, *adam] if group["params"]],
        adam_optimizer=torch.optim.AdamW,
        adam_optimizer_kwargs={"fused": True},
    )
    return optimizer


def _embeddings_and_head(model: nn.Module) -> set[int]:
    """Ids of the matrices whose rows are tokens or positions."""
    head: Any = model.get_output_embeddings()  # type: ignore[operator]
    modules: list[Any] = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    return {id(module.weight) for module in [*modules, *([head] if head is not None else [])]}
