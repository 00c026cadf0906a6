"""What a task is: everything that training and evaluation need to know of it, and nothing of how they run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from torch import nn

    from llmcore.models.initialize import Home
    from llmcore.models.packed import PackedBatch

__all__ = ["NO_TARGET", "Example", "Features", "Task", "TaskBatch"]


NO_TARGET = -1
"""Target of an example that teaches nothing: without a label, or there to fill up a rank's share."""


class Example(NamedTuple):
    """One row, ready for the model: token ids, and the class or `NO_TARGET`."""

    tokens: list[int]
    target: int


class Features(NamedTuple):
    """Examples in the order of their rows, and how many of them were cut."""

    examples: list[Example]
    num_truncated: int


@dataclass(frozen=True)
class TaskBatch:
    """Examples that go through the model at once, without padding.

    Attributes:
        packed: The examples as the documents of packed rows.
        targets: LongTensor [num_examples], in the order of the documents; `NO_TARGET` where there is none.
        num_targets: How many are targets, known without asking the device.
    """

    packed: "PackedBatch"
    targets: "torch.Tensor"
    num_targets: int

    def to(self, device: "torch.device") -> "TaskBatch":
        """The same batch on another device."""
        return TaskBatch(self.packed.to(device), self.targets.to(device, non_blocking=True), self.num_targets)


class Task(Protocol):
    """One kind of thing to learn from a labelled set; its settings are `config.TaskSettings`."""

    @property
    def kind(self) -> str:
        """Its name in a configuration, and in a model's manifest."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of a labelled set that it reads."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that make sense for it, by their names in `evaluation.metrics`."""

    @property
    def validation_metric(self) -> str:
        """The metric that trials are compared by; one of `metrics`."""

    def build_model(self, folder: Path, *, seed: int, random_weights: bool, home: "Home | None" = None) -> "nn.Module":
        """The base model in `folder`, or its architecture alone, with this task's head (`models.build.make_model`)."""

    def load_model(self, folder: Path) -> "nn.Module":
        """A trained model of this task from its exported folder."""

    def about(self) -> dict[str, Any]:
        """Plain JSON for the `task` key of a model's manifest; `task_from_about` makes the task again."""

    def features(self, tokenizer: Any, rows: "pa.Table") -> Features:
        """The rows of a labelled set as examples; what is cut is counted."""

    def collate(self, examples: Sequence[Example]) -> TaskBatch:
        """Examples as one batch."""

    def num_targets(self, batch: TaskBatch) -> tuple[int]:
        """Targets of a batch, by which the loop divides (as of an `objectives.base.Objective`)."""

    def num_tokens(self, batch: TaskBatch) -> int:
        """Tokens of a batch, padding left out."""

    def loss_sums(self, model: Any, batch: TaskBatch) -> "torch.Tensor":
        """Sum of the loss over the targets (nats where it is a likelihood), [1]; zero, with a gradient, without any."""

    def predict(self, model: Any, batch: TaskBatch) -> "np.ndarray[Any, Any]":
        """What the model says, one row an example, as float32; `decode` makes predictions of it."""

    def decode(self, outputs: "np.ndarray[Any, Any]") -> Mapping[str, "np.ndarray[Any, Any]"]:
        """Columns of the table of predictions, one value an example; `prediction` is among them."""
