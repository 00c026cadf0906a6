"""Next-token prediction inside documents."""

import pyarrow as pa
from torch import Tensor, nn
from torch.nn import functional

from llmcore.cost.flops import Work
from llmcore.models.packed import PackedBatch, hidden_states
from llmcore.objectives.base import loss_and_hits
from llmcore.objectives.rows import packed_micro_batches

__all__ = ["CausalLM", "causal_lm_targets"]


def causal_lm_targets(batch: PackedBatch) -> tuple[Tensor, Tensor]:
    """Indices of the predicting positions in the flattened rows, and the tokens they predict: two int64 [targets].

    Every token of a document but its first is predicted, from the one before it; padding never is.
    """
    places = batch.later_places()
    return places - 1, batch.tokens.flatten()[places]


class CausalLM:
    """The autoregressive objective (GPT)."""

    num_extra_positions = 0

    def micro_batches(self, rows: pa.Table, num_parts: int, size: int) -> list[PackedBatch]:
        """Rows of token shards as `num_parts` micro batches of at most `size` rows."""
        return packed_micro_batches(rows, num_parts, size)

    def num_targets(self, batch: PackedBatch) -> tuple[int]:
        """Tokens that are predicted."""
        pieces = zip(batch.lengths, batch.padding, strict=True)
        return (sum(length - 1 for length, padding in pieces if not padding),)

    def num_tokens(self, batch: PackedBatch) -> int:
        """Real tokens."""
        return batch.num_tokens()

    def work(self, batch: PackedBatch) -> Work:
        """What the documents ask of a model."""
        return batch.work(predicted=self.num_targets(batch)[0])

    def targets(self, batch: PackedBatch) -> Tensor:
        """The tokens that are predicted, int64 [targets]."""
        return causal_lm_targets(batch)[1]

    def loss_sums(self, model: nn.Module, batch: PackedBatch) -> Tensor:
        """Sum of the cross-entropies of all targets (nats), [1]."""
        logits, targets = self._logits(model, batch)
        return functional.cross_entropy(logits.float(), targets, reduction="sum")[None]

    def loss_and_hits(self, model: nn.Module, batch: PackedBatch) -> Tensor:
        """The loss and the right guesses."""
        return loss_and_hits(*self._logits(model, batch))

    @staticmethod
    def _logits(model: nn.Module, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """What the model says before each target, [targets, vocabulary]; and the targets."""
        sources, targets = causal_lm_targets(batch)
        hidden = hidden_states(model, batch).flatten(0, 1)[sources]
        return model.get_output_embeddings()(hidden), targets  # type: ignore[operator]
