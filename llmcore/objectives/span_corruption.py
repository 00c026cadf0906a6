"""Spans that were cut out of documents, written by an encoder-decoder."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional

from llmcore.config.corruption import SpanSettings
from llmcore.cost.flops import Work
from llmcore.errors import ConfigError
from llmcore.models.encoder_decoder import PackedPair, encoder_decoder_logits
from llmcore.models.packed import PackedBatch
from llmcore.objectives.base import loss_and_hits
from llmcore.objectives.documents import Document, documents_of
from llmcore.objectives.spans import corrupted, most_spans
from llmcore.tokens.tokenizer import SpecialIds

__all__ = ["CorruptedBatch", "SpanCorruption"]


@dataclass(frozen=True)
class CorruptedBatch:
    """What the encoder reads and the decoder writes, and how many tokens of the corpus that was."""

    pair: PackedPair
    num_tokens: int

    def to(self, device: torch.device) -> "CorruptedBatch":
        """The same batch on a device."""
        return CorruptedBatch(self.pair.to(device), self.num_tokens)


class SpanCorruption:
    """The objective of T5: spans become sentinels, and the decoder writes each after its sentinel, then the end."""

    num_extra_positions = 1
    """A document that is nearly all spans and sentinels, and the end."""

    def __init__(
        self, settings: SpanSettings, sentinels: Sequence[int], special: SpecialIds, sequence_length: int, seed: int
    ) -> None:
        needed = most_spans(sequence_length, settings)
        if needed > len(sentinels):
            raise ConfigError(
                f"a document of {sequence_length} tokens has up to {needed} spans, and the tokenizer {len(sentinels)} "
                f"sentinels: raise spans.mean_length={settings.mean_length:g}, or prepare shorter rows"
            )
        self._settings = settings
        self._sentinels = np.array(sentinels, np.int64)
        self._special = special
        self._seed = seed

    def micro_batches(self, rows: pa.Table, num_parts: int, size: int) -> list[CorruptedBatch]:
        """Rows of token shards as `num_parts` micro batches of at most `size` rows, corrupted by their positions."""
        documents = list(documents_of(rows, self._special, self._seed))
        return [self._corrupted(documents[part * size : (part + 1) * size]) for part in range(num_parts)]

    def _corrupted(self, rows: list[list[Document]]) -> CorruptedBatch:
        sources: list[list[npt.NDArray[np.int64]]] = []
        targets: list[list[npt.NDArray[np.int64]]] = []
        num_tokens = 0
        for row in rows or [[]]:
            sources.append([])
            targets.append([])
            for begin, body, end, key in row:
                num_tokens += len(begin) + len(body) + len(end)
                source, target = corrupted(body, key, self._settings, self._sentinels)
                if len(target):  # What has no span has nothing to be written, and so is not read either.
                    sources[-1].append(np.concatenate([begin, source, end]))
                    targets[-1].append(np.append(target, self._special.end))
        return CorruptedBatch(PackedPair(self._rows(sources), self._rows(targets)), num_tokens)

    def _rows(self, documents: list[list[npt.NDArray[np.int64]]]) -> PackedBatch:
        """Each row has padding at its end, of one token at least, so that all pieces of two sides pair up."""
        lengths = [[len(document) for document in row] for row in documents]
        tokens = np.full((len(documents), max(map(sum, lengths)) + 1), self._special.pad, np.int64)
        for row, pieces in zip(tokens, documents, strict=True):
            flat = np.concatenate([*pieces, row[:0]])
            row[: len(flat)] = flat
        return PackedBatch.of_rows(torch.from_numpy(tokens), lengths)

    def num_targets(self, batch: CorruptedBatch) -> tuple[int]:
        """Tokens that the decoder writes."""
        return (batch.pair.target.num_tokens(),)

    def num_tokens(self, batch: CorruptedBatch) -> int:
        """Tokens of the corpus."""
        return batch.num_tokens

    def work(self, batch: CorruptedBatch) -> Work:
        """What the documents ask of a model."""
        return batch.pair.work(predicted=self.num_targets(batch)[0])

    def targets(self, batch: CorruptedBatch) -> Tensor:
        """The tokens that the decoder writes, int64 [targets]."""
        target = batch.pair.target
        return target.tokens.flatten()[target.real_places()]

    def loss_sums(self, model: nn.Module, batch: CorruptedBatch) -> Tensor:
        """Sum of the cross-entropies of all targets (nats), [1]."""
        logits = encoder_decoder_logits(model, batch.pair).float()
        return functional.cross_entropy(logits, self.targets(batch), reduction="sum")[None]

    def loss_and_hits(self, model: nn.Module, batch: CorruptedBatch) -> Tensor:
        """The loss and the right guesses."""
        return loss_and_hits(encoder_decoder_logits(model, batch.pair), self.targets(batch))
