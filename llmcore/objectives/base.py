"""What the training loop needs of an objective, whatever the batch is."""

from typing import Any, Protocol

from torch import Tensor, nn

__all__ = ["Objective"]


class Objective(Protocol):
    """A loss that is a sum over targets; the loop divides by the targets of the whole global batch."""

    def num_targets(self, batch: Any) -> int:
        """Targets of a micro batch, known before the model runs."""

    def num_tokens(self, batch: Any) -> int:
        """Real tokens of a micro batch, padding left out."""

    def loss_sum(self, model: nn.Module, batch: Any) -> Tensor:
        """Sum of the losses of the micro batch's targets (nats); zero, with a gradient, where it has none."""
