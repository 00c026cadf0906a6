"""How likely a masked language model finds tokens, each seen from both sides."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from llmcore.models.generation.batches import batches
from llmcore.models.generation.scoring import packed_attention
from llmcore.models.packed import PackedBatch, masked_lm_logits, states_at

__all__ = ["pseudo_log_likelihoods"]


def pseudo_log_likelihoods(
    model: Any, texts: Sequence[Sequence[int]], places: Sequence[Sequence[int]], *, mask_id: int, batch_tokens: int
) -> list[float]:
    """Of each text the sum of the log-probabilities (nats) of the tokens at its places, each of them masked by itself.

    Source: Salazar et al. 2020 (Masked Language Model Scoring, ACL), equation 1, over the places that are asked for.

    Args:
        model: A masked language model on any device.
        texts: Tokens, those that frame a text included.
        places: Which of them are asked for.
        mask_id: The mask token.
        batch_tokens: Tokens that go through the model at once, at most, or one text.
    """
    asked = [(row, place) for row, of_row in enumerate(places) for place in of_row]
    sums = [0.0] * len(texts)
    with torch.inference_mode(), packed_attention(model):
        for batch in batches([len(texts[row]) for row, _ in asked], batch_tokens):
            chosen = [asked[index] for index in batch]
            masked = [[*texts[row][:place], mask_id, *texts[row][place + 1 :]] for row, place in chosen]
            packed = PackedBatch.of_documents(masked).to(model.device)
            at = packed.first_tokens() + torch.tensor([place for _, place in chosen], device=model.device)
            logits = masked_lm_logits(model, states_at(model, packed, at))
            targets = torch.tensor([texts[row][place] for row, place in chosen], device=model.device)
            found = -functional.cross_entropy(logits.float(), targets, reduction="none")
            for (row, _), value in zip(chosen, found.double().tolist(), strict=True):
                sums[row] += value
    return sums
