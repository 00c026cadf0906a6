"""Masked tokens, guessed from both sides, inside documents."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional

from llmcore.config.masking import MaskingSettings
from llmcore.cost.flops import Work
from llmcore.models.packed import PackedBatch, hidden_states, masked_lm_logits
from llmcore.objectives.base import loss_and_hits
from llmcore.objectives.masking import masked
from llmcore.objectives.rows import packed_micro_batches
from llmcore.tokens.vocabulary import Vocabulary

__all__ = ["MaskedBatch", "MaskedLM"]


@dataclass(frozen=True)
class MaskedBatch:
    """Packed rows as the model sees them; where its targets are in the flattened rows, and what: int64 [targets]."""

    seen: PackedBatch
    places: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> "MaskedBatch":
        """The same batch on a device."""
        return MaskedBatch(self.seen.to(device), self.places.to(device), self.targets.to(device))


class MaskedLM:
    """The masked objective (BERT)."""

    num_extra_positions = 0

    def __init__(self, settings: MaskingSettings, vocabulary: Vocabulary, seed: int) -> None:
        self._settings = settings
        self._vocabulary = vocabulary
        self._seed = seed
        self._random_ids = np.flatnonzero(~vocabulary.is_special)

    def micro_batches(self, rows: pa.Table, num_parts: int, size: int) -> list[MaskedBatch]:
        """Rows of token shards as `num_parts` micro batches of at most `size` rows, masked by their positions."""
        positions = rows["position"].to_numpy()
        packed = packed_micro_batches(rows, num_parts, size)
        return [self._masked(batch, positions[index * size : (index + 1) * size]) for index, batch in enumerate(packed)]

    def _masked(self, batch: PackedBatch, positions: np.ndarray) -> MaskedBatch:
        tokens = batch.tokens.numpy()
        if not len(positions):  # a row of padding, so that every rank has as many micro batches
            positions = np.zeros(len(tokens), np.int64)
        vocabulary = self._vocabulary
        real = ~batch.padding_tokens().numpy() & ~vocabulary.is_special[tokens]
        found = masked(
            tokens,
            real,
            positions,
            self._settings,
            seed=self._seed,
            mask_id=vocabulary.mask_id,
            random_ids=self._random_ids,
            word_starts=vocabulary.begins_word,
        )
        seen = PackedBatch(torch.from_numpy(found.tokens), batch.lengths, batch.padding)
        places = torch.from_numpy(np.flatnonzero(found.targets))
        return MaskedBatch(seen, places, batch.tokens.flatten()[places])

    def num_targets(self, batch: MaskedBatch) -> tuple[int]:
        """Tokens that are to be guessed."""
        return (len(batch.targets),)

    def num_tokens(self, batch: MaskedBatch) -> int:
        """Real tokens."""
        return batch.seen.num_tokens()

    def work(self, batch: MaskedBatch) -> Work:
        """What the documents ask of a model."""
        return batch.seen.work(predicted=len(batch.targets))

    def targets(self, batch: MaskedBatch) -> Tensor:
        """The tokens that are to be guessed, int64 [targets]."""
        return batch.targets

    def loss_sums(self, model: nn.Module, batch: MaskedBatch) -> Tensor:
        """Sum of the cross-entropies of all targets (nats), [1]."""
        return functional.cross_entropy(self._logits(model, batch).float(), batch.targets, reduction="sum")[None]

    def loss_and_hits(self, model: nn.Module, batch: MaskedBatch) -> Tensor:
        """The loss and the right guesses."""
        return loss_and_hits(self._logits(model, batch), batch.targets)

    @staticmethod
    def _logits(model: nn.Module, batch: MaskedBatch) -> Tensor:
        """What the model says of each target, [targets, vocabulary]."""
        return masked_lm_logits(model, hidden_states(model, batch.seen).flatten(0, 1)[batch.places])
