"""A fine-tuning that leaves predictions instead of a model: no checkpoint, no export, judged after its last step."""

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import torch

from llmcore.cost import Ledger
from llmcore.train.begin import begin_engine, count_flops, dry_step_if_due
from llmcore.train.checkpoint import seed_rank
from llmcore.train.energy import RanksEnergy
from llmcore.train.engine import Engine, StepResult
from llmcore.train.finetuning import Finetuning
from llmcore.train.loop import train
from llmcore.train.meter import Meter
from llmcore.train.prefetch import prefetched
from llmcore.train.progress import Progress
from llmcore.train.swapping import own_swap_folder

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Observer", "PointOutcome", "train_point"]


class Observer(Protocol):
    """Who stands around a point's steps."""

    def stop(self) -> bool:
        """Asked before each step: whether this rank was asked to stop."""

    def log(self, row: dict[str, Any]) -> None:
        """A row of metrics."""


@dataclass(frozen=True)
class PointOutcome:
    """What is left of a point.

    Attributes:
        about: How it was trained, as plain JSON.
        predictions: Of the validation split, row by row: id, group, and what the metrics read; None where it diverged.
    """

    about: dict[str, Any]
    predictions: "pa.Table | None"


class _Hooks:
    """The loop's hooks, of which nothing is written but rows of metrics."""

    def __init__(self, recipe: Finetuning, engine: Engine, meter: Meter, observer: Observer) -> None:
        self._recipe, self._engine, self._meter, self._observer = recipe, engine, meter, observer
        self.judged: tuple[float, pa.Table] | None = None

    def stop(self) -> bool:
        return self._observer.stop()

    def log(self, progress: Progress, result: StepResult) -> None:
        told = {"step": progress.step, "loss": result.loss, "learning_rate": result.learning_rate}
        self._observer.log(told | self._meter.read(progress.tokens_seen))

    def skipped(self, progress: Progress, result: StepResult) -> Progress:
        return progress

    def validate(self, progress: Progress) -> dict[str, float]:
        """Comes once: a point has no `validate_every`."""
        self.judged = self._recipe.judge(self._engine)
        return {}

    def export(self, progress: Progress, metrics: dict[str, float]) -> Progress:
        return progress

    def save(self, progress: Progress) -> None: ...

    def report(self, progress: Progress, metrics: dict[str, float]) -> None: ...


def train_point(
    recipe: Finetuning, *, device: torch.device, observer: Observer, ledger: Ledger, warm: bool = True
) -> PointOutcome | None:
    """Trains from its first step to its last, and judges the validation split; None where it was asked to stop.

    The steps are those that `fit` takes of the same recipe, number by number. A collective of all ranks.

    Args:
        recipe: What is trained.
        device: This rank's device.
        observer: Asked before each step, and told of some.
        ledger: Takes the time, FLOPs and tokens of this rank.
        warm: Whether this process has trained before; else a step is thrown away first, so that what a process does
            once is not counted to the first point.

    Raises:
        NonFiniteError: on every rank, where a loss or gradient is not finite.
    """
    with own_swap_folder(recipe.settings) as settings:
        energy = RanksEnergy(device)
        batches = prefetched(islice(recipe.step_batches(0), recipe.num_steps))  # reads while the model is built
        engine = begin_engine(recipe, settings, device, ledger)
        seed_rank(settings.seed, 0)
        dry_step_if_due(recipe, engine, ledger, cold=not warm)
        flops_per_token = count_flops(recipe, engine, ledger)
        hooks = _Hooks(recipe, engine, Meter(ledger, flops_per_token, 0), observer)
        progress = train(engine, batches, Progress(), settings, hooks, ledger)
        ledger.count(flops=progress.tokens_seen * flops_per_token, tokens=progress.tokens_seen)
        if hooks.judged is None:
            return None
        loss, predictions = hooks.judged
        about = {
            "num_steps": progress.step,
            "skipped_steps": progress.skipped_steps,
            "tokens": progress.tokens_seen,
            "flops": progress.tokens_seen * flops_per_token,
            "train_loss": progress.last_loss,
            "energy_j": energy.joules(),
            "validation_loss": loss,
            "num_parameters": engine.num_parameters,
            "num_trained_parameters": engine.num_trained_parameters,
            "precision": engine.precision,
            "world_size": engine.world_size,
            **recipe.told(),
        }
        return PointOutcome(about, predictions)
