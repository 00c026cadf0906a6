"""Masked tokens, and whether a segment follows another: what BERT was trained on."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional

from llmcore.cost.flops import Work
from llmcore.models.packed import hidden_states, masked_lm_logits, next_sentence_logits
from llmcore.objectives.base import loss_and_hits
from llmcore.objectives.masked_lm import MaskedBatch, MaskedLM
from llmcore.tokens.schema import ALONE

__all__ = ["NextSentence", "PairBatch"]


@dataclass(frozen=True)
class PairBatch:
    """Masked rows; where each pair begins in the flattened rows, and what its second segment is: int64 [pairs]."""

    masked: MaskedBatch
    firsts: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "PairBatch":
        """The same batch on a device."""
        return PairBatch(self.masked.to(device), self.firsts.to(device), self.labels.to(device))


class NextSentence:
    """The objective of BERT (Devlin et al., 2019, section 3.1): the mean loss of masked tokens, and that of pairs."""

    num_extra_positions = 0

    def __init__(self, masked: MaskedLM) -> None:
        self._masked = masked

    def micro_batches(self, rows: pa.Table, num_parts: int, size: int) -> list[PairBatch]:
        """Rows of sentence pairs as `num_parts` micro batches of at most `size` rows, masked by their positions."""
        masked = self._masked.micro_batches(rows, num_parts, size)
        parts = [rows.slice(index * size, size) for index in range(num_parts)]
        return [_paired(batch, part) for batch, part in zip(masked, parts, strict=True)]

    def num_targets(self, batch: PairBatch) -> tuple[int, int]:
        """Tokens that are to be guessed, and pairs."""
        return *self._masked.num_targets(batch.masked), len(batch.labels)

    def num_tokens(self, batch: PairBatch) -> int:
        """Real tokens."""
        return self._masked.num_tokens(batch.masked)

    def work(self, batch: PairBatch) -> Work:
        """What the documents ask of a model."""
        return self._masked.work(batch.masked)._replace(pooled=len(batch.labels))

    def targets(self, batch: PairBatch) -> Tensor:
        """The tokens that are to be guessed, int64 [targets]."""
        return self._masked.targets(batch.masked)

    def loss_sums(self, model: nn.Module, batch: PairBatch) -> Tensor:
        """Sums of the cross-entropies (nats) of the masked tokens, and of the pairs, [2]."""
        tokens, pairs = _logits(model, batch)
        return torch.stack(
            [
                functional.cross_entropy(tokens.float(), batch.masked.targets, reduction="sum"),
                functional.cross_entropy(pairs.float(), batch.labels, reduction="sum"),
            ]
        )

    def loss_and_hits(self, model: nn.Module, batch: PairBatch) -> Tensor:
        """The loss and the right guesses of masked tokens, then those of pairs, [4]."""
        tokens, pairs = _logits(model, batch)
        return torch.cat([loss_and_hits(tokens, batch.masked.targets), loss_and_hits(pairs, batch.labels)])


def _paired(batch: MaskedBatch, rows: pa.Table) -> PairBatch:
    seen = batch.seen
    starts, labels = (torch.from_numpy(_of_pieces(rows, name)) for name in ("sentence_offsets", "next_sentence"))
    is_pair = labels != ALONE
    masked = MaskedBatch(seen.with_seconds(starts), batch.places, batch.targets)
    return PairBatch(masked, seen.first_tokens()[is_pair], labels[is_pair])


def _of_pieces(rows: pa.Table, name: str) -> npt.NDArray[np.int64]:
    """A column of lists, one number for each piece of the rows."""
    numbers: npt.NDArray[np.int64] = rows[name].combine_chunks().flatten().to_numpy().astype(np.int64)
    return numbers


def _logits(model: nn.Module, batch: PairBatch) -> tuple[Tensor, Tensor]:
    """What the model says of each masked token, [targets, vocabulary], and of each pair, [pairs, 2]."""
    states = hidden_states(model, batch.masked.seen).flatten(0, 1)
    return masked_lm_logits(model, states[batch.masked.places]), next_sentence_logits(model, states[batch.firsts])
