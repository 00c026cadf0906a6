"""Next-token prediction inside documents."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmcore.models.packed import PackedBatch, hidden_states

__all__ = ["CausalLM", "causal_lm_targets", "unigram_loss_sum"]


def causal_lm_targets(batch: PackedBatch) -> tuple[Tensor, Tensor]:
    """Indices of the predicting positions in the flattened rows, and the tokens they predict: two int64 [targets].

    Every token of a document but its first is predicted, from the one before it; padding never is.
    """
    flat = batch.tokens.flatten()
    is_target = (batch.positions().flatten() > 0) & ~batch.padding_tokens().flatten()
    target_positions = is_target.nonzero().squeeze(1)
    return target_positions - 1, flat[target_positions]


class CausalLM:
    """The autoregressive objective (GPT)."""

    def num_targets(self, batch: PackedBatch) -> int:
        """Tokens that are predicted."""
        return sum(length - 1 for length, padding in zip(batch.lengths, batch.padding, strict=True) if not padding)

    def num_tokens(self, batch: PackedBatch) -> int:
        """Real tokens."""
        return sum(length for length, padding in zip(batch.lengths, batch.padding, strict=True) if not padding)

    def loss_sum(self, model: nn.Module, batch: PackedBatch) -> Tensor:
        """Sum of the cross-entropies of all targets (nats)."""
        sources, targets = causal_lm_targets(batch)
        hidden = hidden_states(model, batch).flatten(0, 1)[sources]
        logits = model.get_output_embeddings()(hidden)  # type: ignore[operator]
        return functional.cross_entropy(logits.float(), targets, reduction="sum")


def unigram_loss_sum(counts: Tensor, batch: PackedBatch) -> float:
    """Sum of -log p (nats) of the batch's targets under unigrams of the counts [vocabulary], with add-one smoothing."""
    _, targets = causal_lm_targets(batch)
    log_p = torch.log((counts + 1.0) / (counts.sum() + counts.numel()))
    return -float(log_p[targets].sum())
