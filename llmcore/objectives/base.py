"""What the training loop needs of an objective, whatever the batch is."""

from typing import Any, Protocol

import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional

from llmcore.cost.flops import Work

__all__ = ["LanguageObjective", "Objective", "loss_and_hits", "unigram_loss_sum"]


class Objective(Protocol):
    """A loss of parts, each a sum over its targets; the loop divides it by those of the whole global batch.

    The loss of a step is the sum of what comes of the parts. Most objectives have one.
    """

    def num_targets(self, batch: Any) -> tuple[int, ...]:
        """Targets of a micro batch, of each part, known before the model runs."""

    def num_tokens(self, batch: Any) -> int:
        """Real tokens of a micro batch, padding left out."""

    def loss_sums(self, model: nn.Module, batch: Any) -> Tensor:
        """Sum of the losses of the micro batch's targets (nats), of each part: [parts].

        Zero, with a gradient, where it has none.
        """


class LanguageObjective(Objective, Protocol):
    """An objective of pre-training: its targets are tokens, and its batches are made of rows of token shards."""

    @property
    def num_extra_positions(self) -> int:
        """Positions that a model needs beyond the length of a row."""

    def micro_batches(self, rows: pa.Table, num_parts: int, size: int) -> list[Any]:
        """Rows as `num_parts` micro batches of at most `size` rows; one without rows has no targets."""

    def work(self, batch: Any) -> Work:
        """What a micro batch asks of a model: what its FLOPs depend on."""

    def targets(self, batch: Any) -> Tensor:
        """The tokens that are to be predicted, int64 [targets]."""

    def loss_and_hits(self, model: nn.Module, batch: Any) -> Tensor:
        """Sum of the losses of the targets (nats), and how many the model guesses right: float32 [2].

        Where the loss has more parts than that of the tokens, the same of each, one after the other: [2 × parts].
        """


def loss_and_hits(logits: Tensor, targets: Tensor) -> Tensor:
    """Of logits [targets, vocabulary]: see `LanguageObjective.loss_and_hits`."""
    loss = functional.cross_entropy(logits.float(), targets, reduction="sum")
    return torch.stack([loss, (logits.argmax(-1) == targets).sum().to(loss.dtype)])


def unigram_loss_sum(counts: Tensor, targets: Tensor) -> float:
    """Sum of -log p (nats) of targets under unigrams of the counts [vocabulary], with add-one smoothing."""
    log_p = torch.log((counts + 1.0) / (counts.sum() + counts.numel()))
    return -float(log_p[targets].sum())
