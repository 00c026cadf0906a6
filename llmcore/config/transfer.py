"""`transfer`: what pre-training buys, by fine-tunings with it and without it at several budgets."""

from itertools import product
from typing import Literal, NamedTuple

from pydantic import model_validator

from llmcore.config.base import Section, flagged, free, identity
from llmcore.config.budget import BudgetSettings
from llmcore.config.common import JobSettings, WorkerSettings
from llmcore.config.finetune import FinetuneConfig, FinetuneSettings, check_method
from llmcore.config.labelled import DataReference
from llmcore.config.method import MethodSettings
from llmcore.config.task import TaskSettings
from llmcore.config.train import StepSettings, check_shares

__all__ = ["WEIGHTS", "Point", "PretrainingCostSettings", "TransferConfig", "Weights"]

Weights = Literal["pretrained", "random"]
WEIGHTS: tuple[Weights, ...] = ("pretrained", "random")


class Point(NamedTuple):
    """One fine-tuning of a transfer.

    Attributes:
        weights: What it begins with.
        labels: Its train rows.
        epochs: Its passes over them.
        seed: Of which rows these are, of their order, of dropout, of the head, and of random weights.
    """

    weights: Weights
    labels: int
    epochs: float
    seed: int

    @property
    def id(self) -> str:
        """Its name in the records: `pretrained-1000-rows-3-epochs-seed-0`."""
        return f"{self.weights}-{self.labels}-rows-{self.epochs:g}-epochs-seed-{self.seed}"


class PretrainingCostSettings(Section):
    """What the pre-training of the base model has cost, where no record of this package tells."""

    device_seconds: float | None = flagged(
        None, gt=0, description="Seconds times devices. Null: as the attempts of the base's run tell, where it is one."
    )
    flops: float | None = flagged(None, gt=0, description="Floating-point operations of the model. Null: the same.")


class TransferConfig(JobSettings):
    """`python -m jobs transfer`: fine-tunes from the base model and from random weights, at each of several budgets."""

    base: str = identity(description="The base model, as for `finetune`.")
    data: DataReference = identity(
        description="`<prepare run>/<labelled set name>`, the URL of an evaluation set, or files to make one of."
    )
    labels: list[int] = flagged(
        min_length=1, description="Label budgets: train rows, each part of the next larger one's. More may be added."
    )
    epochs: list[float] = flagged(
        min_length=1,
        description="Compute budgets: passes over these rows, each a training with a schedule of its own.",
    )
    seeds: list[int] = flagged(
        [0], min_length=1, description="Of each budget's rows, their order, dropout, the head, and random weights."
    )
    max_points: int = free(24, ge=1, description="Fine-tunings at most; more budgets than that are refused.")
    random_learning_rate: float | None = identity(
        None,
        gt=0,
        description="Peak learning rate from random weights, of all layers and the head alike: they have further to "
        "go. Null: as `train.optimizer` says.",
    )
    pretraining: PretrainingCostSettings = flagged(PretrainingCostSettings, description="What the base model has cost.")
    num_resamples: int = flagged(1000, ge=100, description="Resamples of the validation rows for the intervals.")
    task: TaskSettings = identity(TaskSettings, description="The task.")
    method: MethodSettings = identity(
        MethodSettings, description="How much of the pre-trained model trains; from random weights all of it does."
    )
    train: StepSettings = identity(StepSettings, description="The optimization of each point.")
    workers: WorkerSettings = free(WorkerSettings, description="The Ray Train workers, which train all points.")
    budget: BudgetSettings = free(BudgetSettings, description="What the transfer may cost.")

    @model_validator(mode="after")
    def _budgets_are_some(self) -> "TransferConfig":
        for name, least in (("labels", 1), ("epochs", None), ("seeds", 0)):
            given = getattr(self, name)
            if len(set(given)) < len(given):
                raise ValueError(f"{name}={given} has one of them twice: leave it out")
            if wrong := [one for one in given if (one <= 0 if least is None else one < least)]:
                bound = "more than 0" if least is None else f"{least} or more"
                raise ValueError(f"{name}={given}: {wrong[0]} cannot be one; each is {bound}")
        number = len(WEIGHTS) * len(self.labels) * len(self.epochs) * len(self.seeds)
        if number > self.max_points:
            raise ValueError(
                f"{len(WEIGHTS)} kinds of weights x {len(self.labels)} labels x {len(self.epochs)} epochs x "
                f"{len(self.seeds)} seeds are {number} points, and max_points={self.max_points}: give fewer, "
                "or raise it"
            )
        return self

    @model_validator(mode="after")
    def _each_point_can_train(self) -> "TransferConfig":
        check_shares(self.train, self.workers)
        check_method(self.method, self.train)
        if self.train.seed:
            raise ValueError(f"train.seed={self.train.seed}: `seeds` has that of each point; leave it out")
        if self.task.validation_metric == "loss":
            raise ValueError(
                "task.validation_metric=loss has no interval, since it is not of rows: give a metric of the task, or "
                "leave it out"
            )
        return self

    def points(self) -> list[Point]:
        """All of them, in the order in which they train: pre-trained and random by turns, so that both see the same
        hours of the machine.
        """
        budgets = product(self.seeds, sorted(self.labels), sorted(self.epochs))
        return [Point(one, labels, epochs, seed) for seed, labels, epochs in budgets for one in WEIGHTS]

    def settings_of(self, point: Point) -> FinetuneSettings:
        """What `finetune` would be told to train this point, on a set of its rows alone."""
        train = self.train.model_dump() | {"num_epochs": point.epochs, "seed": point.seed}
        method = self.method
        if point.weights == "random":
            method = MethodSettings()  # what the method leaves as it is would stay random
            if self.random_learning_rate is not None:
                alike = {"head_learning_rate_factor": 1.0, "layer_learning_rate_decay": 1.0}
                train["optimizer"] |= {"learning_rate": self.random_learning_rate, **alike}
        return FinetuneSettings.model_validate(
            {"task": self.task, "weights": point.weights, "method": method, "train": train, "workers": self.workers}
        )

    def finetuning(self, point: Point) -> FinetuneConfig:
        """The same as a whole configuration, on all rows of `data`: what can be checked and planned of a point."""
        common = {name: getattr(self, name) for name in ("name", "storage", "cluster", "base", "data")}
        settings = self.settings_of(point)
        return FinetuneConfig.model_validate(
            common | {name: getattr(settings, name) for name in settings.model_fields_set}
        )
