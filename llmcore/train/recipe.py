"""What is particular to one kind of training; everything else is `fit`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from llmcore.config.train import TrainSettings
from llmcore.cost.flops import Work
from llmcore.evaluation.compared import Compared
from llmcore.models.initialize import Home
from llmcore.objectives.base import Objective
from llmcore.train.engine import Engine
from llmcore.train.progress import Progress

__all__ = ["Recipe"]


class Recipe(Protocol):
    """A model, an objective, a way to validate; implemented by pre-training and fine-tuning."""

    @property
    def settings(self) -> TrainSettings:
        """The optimization."""

    @property
    def objective(self) -> Objective:
        """What the steps minimize."""

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""

    @property
    def tokenizer(self) -> Path:
        """Folder of the tokenizer's files, exported with the model."""

    @property
    def exports_every_time(self) -> bool:
        """Whether each validation exports the weights, or only one that is the best so far."""

    def build_model(self, home: Home | None) -> nn.Module:
        """The model before the first step, each of its parameters at home."""

    def step_batches(self, first_step: int) -> Iterator[Sequence[Any]]:
        """This rank's micro batches of each step, from `first_step` on."""

    def longest_batch(self) -> Any:
        """A micro batch that needs as much memory as any of the run may."""

    def samples(self, engine: Engine) -> list[dict[str, str]]:
        """What the model says now, to look at, in `prompt` and `text`; empty where it says nothing. A collective."""

    def validate(self, engine: Engine) -> dict[str, float]:
        """Metrics of the validation split, over all ranks. A collective."""

    def probe_batch(self) -> Any:
        """A few rows of the validation split, always the same: their loss must survive a checkpoint."""

    @property
    def compared(self) -> Compared:
        """The metric that chooses the best export, and by which a run that gains nothing ends early."""

    def told(self) -> dict[str, Any]:
        """What there is to say of its rows in the run's result, as plain JSON; empty where that is said elsewhere."""

    def work_per_token(self) -> Work:
        """What a token of its rows asks of the model, on average: what the FLOPs of a step depend on."""

    def describe(self, progress: Progress, metrics: dict[str, float]) -> tuple[dict[str, Any], str]:
        """What an export's manifest says of the model, and its model card (Markdown); `metrics` may be empty."""
