"""Encoder-decoders on packed rows: each document of the decoder sees its own of the encoder, and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from llmcore.cost.flops import Work
from llmcore.models.attention import Lengths
from llmcore.models.packed import PackedBatch, rounded

__all__ = ["PackedPair", "encoder_decoder_logits"]


@dataclass(frozen=True)
class PackedPair:
    """What an encoder reads, and what a decoder is to write of it: piece by piece, padding too, they belong together.

    `source`: [rows, length]. `target`: [rows, its own length].
    """

    source: PackedBatch
    target: PackedBatch

    def __post_init__(self) -> None:
        if self.source.padding != self.target.padding:
            raise ValueError("the pieces of source and target do not pair up")

    def num_tokens(self) -> int:
        """Real tokens, read and written."""
        return self.source.num_tokens() + self.target.num_tokens()

    def num_places(self) -> int:
        """The same with padding."""
        return self.source.num_places() + self.target.num_places()

    def work(self, *, predicted: int) -> Work:
        """What the documents ask of a model whose head reads so many places."""
        written = self.target.work(predicted=predicted)
        lengths = zip(self.source.lengths, self.target.lengths, self.source.padding, strict=True)
        return self.source.work(predicted=predicted)._replace(
            written=written.read,
            written_pairs=written.read_pairs,
            crossed_pairs=sum(source * target for source, target, padding in lengths if not padding),
        )

    def to(self, device: torch.device) -> "PackedPair":
        """The same pair on a device."""
        return PackedPair(self.source.to(device), self.target.to(device))


def encoder_decoder_logits(model: nn.Module, pair: PackedPair) -> Tensor:
    """What a T5 or BART says of each target token, from the source and the targets before: [targets, vocabulary].

    The model was built or loaded with `attn_implementation=ATTENTION`.
    """
    named: Any = model
    source, target = rounded(model, pair.source), rounded(model, pair.target)
    if named.config.model_type == "bart":  # One row of all documents: it takes positions of one row.
        source, target = source.in_one_row(), target.in_one_row()
    encoder, decoder = named.get_encoder(), named.get_decoder()
    with _positions(encoder, source), _positions(decoder, target):
        encoded = encoder(input_ids=source.tokens, document_lengths=Lengths(source.lengths)).last_hidden_state
        hidden = decoder(
            input_ids=_shifted(target, named.config.decoder_start_token_id),
            encoder_hidden_states=encoded,
            use_cache=False,
            document_lengths=Lengths(target.lengths),
            source_lengths=Lengths(source.lengths),
        ).last_hidden_state
    hidden = hidden.flatten(0, 1)[target.real_places()]
    if named.config.model_type == "bart":
        return named.lm_head(hidden) + named.final_logits_bias  # type: ignore[no-any-return]
    if named.config.scale_decoder_outputs:
        hidden = hidden * named.config.d_model**-0.5
    return named.lm_head(hidden)  # type: ignore[no-any-return]


def _shifted(target: PackedBatch, start_id: int) -> Tensor:
    """What stands before each token of its document, `start_id` before the first: int64 [rows, length]."""
    before = target.tokens.flatten().roll(1).view_as(target.tokens)
    return before.masked_fill(target.positions() == 0, start_id)


@contextmanager
def _positions(stack: Any, batch: PackedBatch) -> Iterator[None]:
    """Positions that start anew in each document, for a stack that counts them by itself, as BART's do."""
    embedding = getattr(stack, "embed_positions", None)
    if embedding is None:
        yield
        return
    positions = batch.positions().flatten()
    handle = embedding.register_forward_pre_hook(
        lambda _, args, kwargs: (args, kwargs | {"position_ids": positions}), with_kwargs=True
    )
    try:
        yield
    finally:
        handle.remove()
