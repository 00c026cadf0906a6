"""What a language model makes of a text, as one vector."""

from collections.abc import Sequence
from typing import Any

import torch

from llmcore.models.generation.batches import batches
from llmcore.models.generation.scoring import packed_attention
from llmcore.models.packed import PackedBatch, hidden_states

__all__ = ["text_vectors"]


def text_vectors(
    model: Any, texts: Sequence[Sequence[int]], places: Sequence[Sequence[int]], *, batch_tokens: int
) -> list[list[float]]:
    """The mean of a model's last hidden states at some places of each text: [texts, dim].

    Args:
        model: A language model on any device.
        texts: Tokens, those that frame a text included.
        places: Where the states are taken; one or more in each text.
        batch_tokens: Tokens that go through the model at once, at most, or one text.
    """
    found: list[list[float]] = [[] for _ in texts]
    with torch.inference_mode(), packed_attention(model):
        for rows in batches([len(text) for text in texts], batch_tokens):
            batch = PackedBatch.of_documents([texts[row] for row in rows]).to(model.device)
            states = hidden_states(model, batch).flatten(0, 1).float()
            for row, first in zip(rows, batch.first_tokens().tolist(), strict=True):
                at = torch.tensor([first + place for place in places[row]], device=model.device)
                found[row] = states[at].mean(dim=0).double().tolist()
    return found
