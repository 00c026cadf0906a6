"""Classification whose rows weigh differently, and whose answers are drawn together with those to counterfactuals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from llmcore.tasks.text_classification import ClassBatch, ClassExample, TextClassification

if TYPE_CHECKING:
    import torch

    from llmcore.cost.flops import Work

__all__ = ["FairBatch", "FairClassification", "FairExample"]


class FairExample(NamedTuple):
    """An example, what it weighs in the loss, and its counterfactual, which has no target."""

    example: ClassExample
    weight: float = 1.0
    twin: ClassExample | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens of both."""
        return self.example.num_tokens + (self.twin.num_tokens if self.twin else 0)


@dataclass(frozen=True)
class FairBatch:
    """Examples, and behind them the counterfactuals of some.

    Attributes:
        all: Both, in one batch.
        weights: float32 [examples and counterfactuals]; those of the latter meet no target.
        pairs: int64 [2, counterfactuals]: places of an example and of its counterfactual.
    """

    all: ClassBatch
    weights: "torch.Tensor"
    pairs: "torch.Tensor"

    @property
    def num_places(self) -> int:
        """Tokens that go through the model, padding included."""
        return self.all.num_places

    def to(self, device: "torch.device") -> "FairBatch":
        """The same batch on another device."""
        return FairBatch(self.all.to(device), self.weights.to(device), self.pairs.to(device))


@dataclass(frozen=True)
class FairClassification:
    """An `objectives.base.Objective` around the task, which itself is what is validated and exported.

    Attributes:
        task: The classification.
        consistency: Weight of the logits' mean absolute difference between an example and its counterfactual
            (counterfactual logit pairing, Garg et al. 2019, section 4.3).
    """

    task: TextClassification
    consistency: float

    def collate(self, examples: Sequence[FairExample]) -> FairBatch:
        """Examples as one batch."""
        import torch

        places = [place for place, one in enumerate(examples) if one.twin is not None]
        twins = [one.twin for one in examples if one.twin is not None]
        both = self.task.collate([*(one.example for one in examples), *twins])
        weights = torch.tensor([*(one.weight for one in examples), *([1.0] * len(twins))])
        pairs = torch.tensor([places, [len(examples) + number for number in range(len(twins))]], dtype=torch.int64)
        return FairBatch(both, weights, pairs)

    def without_target(self, example: FairExample) -> FairExample:
        """Its last token, alone."""
        return FairExample(self.task.without_target(example.example))

    def num_targets(self, batch: FairBatch) -> tuple[int]:
        """Examples that have a target."""
        return self.task.num_targets(batch.all)

    def num_tokens(self, batch: FairBatch) -> int:
        """Tokens of the examples and of their counterfactuals."""
        return self.task.num_tokens(batch.all)

    def work(self, batch: FairBatch) -> "Work":
        """What a batch asks of a model."""
        return self.task.work(batch.all)

    def loss_sums(self, model: Any, batch: FairBatch) -> "torch.Tensor":
        """Sum of the weighed losses of the examples and of the differences from their counterfactuals, [1]."""
        logits = self.task.logits(model, batch.all)
        losses = self.task.losses(logits, batch.all, self.task.weights) * batch.weights
        first, second = batch.pairs
        apart = (logits[first] - logits[second]).abs().mean(dim=-1)
        return (losses.sum() + self.consistency * apart.sum())[None]
