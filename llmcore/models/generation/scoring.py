"""How likely a model finds given texts."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from llmcore.models.attention import ATTENTION
from llmcore.models.encoder_decoder import PackedPair, encoder_decoder_logits
from llmcore.models.generation.batches import batches
from llmcore.models.packed import PackedBatch, hidden_states

__all__ = ["attention_as", "loss_sums", "packed_attention"]


def loss_sums(
    model: Any, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]], *, batch_tokens: int
) -> list[float]:
    """Sum of the cross-entropies (nats) of each continuation's tokens after its prompt.

    Rows are laid end to end, at most `batch_tokens` tokens at once, or one row: nothing is padded, and the head looks
    at the continuations alone.
    """
    sums = [0.0] * len(prompts)
    lengths = [len(prompt) + len(continuation) for prompt, continuation in zip(prompts, continuations, strict=True)]
    losses_of = _after_source if model.config.is_encoder_decoder else _after_prompt
    with torch.inference_mode(), packed_attention(model):
        for batch in batches(lengths, batch_tokens):
            rows = [index for index in batch if continuations[index]]
            if not rows:
                continue
            losses = losses_of(model, [prompts[row] for row in rows], [continuations[row] for row in rows])
            ends = list(accumulate(len(continuations[row]) for row in rows))
            for row, start, end in zip(rows, [0, *ends], ends, strict=False):
                sums[row] = losses[start:end].double().sum().item()
    return sums


def _after_prompt(model: Any, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]) -> Tensor:
    """Cross-entropies of the continuations' tokens, one after the other, by a decoder."""
    pairs = list(zip(prompts, continuations, strict=True))
    batch = PackedBatch.of_documents([[*prompt, *continuation] for prompt, continuation in pairs]).to(model.device)
    kinds = [[False] * len(prompt) + [True] * len(continuation) for prompt, continuation in pairs]
    targets = torch.tensor([kind for row in kinds for kind in row], device=model.device).nonzero()[:, 0]
    hidden = hidden_states(model, batch).flatten(0, 1)[targets - 1]
    logits = model.get_output_embeddings()(hidden)
    return functional.cross_entropy(logits.float(), batch.tokens.flatten()[targets], reduction="none")


def _after_source(model: Any, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> Tensor:
    """Cross-entropies of the targets' tokens, one after the other, by an encoder-decoder."""
    pair = PackedPair(PackedBatch.of_documents(sources), PackedBatch.of_documents(targets)).to(model.device)
    logits = encoder_decoder_logits(model, pair)
    return functional.cross_entropy(logits.float(), pair.target.tokens.flatten(), reduction="none")


@contextmanager
def attention_as(model: Any, name: str) -> Iterator[None]:
    """Attention of transformers by its name, for a model that has another one."""
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def packed_attention(model: Any) -> AbstractContextManager[None]:
    """Attention inside the documents of packed rows, for a model that has another one."""
    return attention_as(model, ATTENTION)
