"""How each training begins: the model and its engine, a step that is thrown away, and what a token of it costs."""

import torch

from llmcore.config.train import TrainSettings
from llmcore.cost import Ledger
from llmcore.cost.devices import peak_flops_per_s
from llmcore.models.flops import model_flops
from llmcore.train.dry_step import dry_step
from llmcore.train.engine import Engine, parameter_home
from llmcore.train.precision import resolve_precision
from llmcore.train.recipe import Recipe

__all__ = ["begin_engine", "count_flops", "dry_step_if_due"]


def begin_engine(recipe: Recipe, settings: TrainSettings, device: torch.device, ledger: Ledger) -> Engine:
    """The recipe's model on this rank's device, with its optimizer. A collective."""
    with ledger.measure("start_up", "model"):
        precision = resolve_precision(settings)
        model = recipe.build_model(parameter_home(settings, precision, device))
    with ledger.measure("start_up", "engine"):
        return Engine(model, recipe.objective, settings, num_steps=recipe.num_steps, precision=precision, device=device)


def dry_step_if_due(recipe: Recipe, engine: Engine, ledger: Ledger, *, cold: bool = False) -> None:
    """Takes a step of the longest batch that leaves nothing, where the settings say so, or for a process that is cold.

    A collective.
    """
    wanted, on_gpu = engine.settings.dry_step, engine.device.type == "cuda"
    if cold or wanted is True or (wanted == "auto" and on_gpu):
        with ledger.measure("start_up", "dry_step"):
            dry_step(engine, recipe.longest_batch())


def count_flops(recipe: Recipe, engine: Engine, ledger: Ledger) -> float:
    """FLOPs of a token, forward and backward; the ledger is told the device's peak."""
    peak = engine.settings.peak_flops_per_s
    ledger.peak_flops_per_s = peak or peak_flops_per_s(ledger.device, engine.precision)
    return model_flops(engine.model).of_training(recipe.work_per_token())
