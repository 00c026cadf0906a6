"""How likely a decoder finds several continuations of one text, which it reads once for all of them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from llmcore.models.generation.batches import batches, padded
from llmcore.models.generation.scoring import attention_as
from llmcore.models.packed import backbone

__all__ = ["branch_losses"]

Tokens = Sequence[int]
_NOBODY = -1
"""The branch of padding."""


def branch_losses(
    model: Any, prefixes: Sequence[Tokens], branches: Sequence[Sequence[Tokens]], *, batch_tokens: int
) -> list[list[list[float]]]:
    """Cross-entropies (nats) of each token of each branch behind its prefix, by row, branch and token.

    A row is laid out as its prefix and then all its branches. A token sees the prefix and what stands before it in its
    own branch, and each branch begins at the position behind the prefix: so the numbers are those of the branches read
    one by one, to rounding, while a prefix that is much longer than its branches is read once.

    Args:
        model: A decoder with positions of its own or rotary ones, on any device.
        prefixes: Tokens, one or more in each.
        branches: What may follow each prefix; none is empty.
        batch_tokens: Tokens that go through the model at once, at most, padding included, or one row.
    """
    lengths = [len(prefix) + sum(map(len, own)) for prefix, own in zip(prefixes, branches, strict=True)]
    found: list[list[list[float]]] = [[] for _ in prefixes]
    with torch.inference_mode(), attention_as(model, "sdpa"):
        for rows in batches(lengths, batch_tokens):
            losses = iter(_of_batch(model, [prefixes[row] for row in rows], [branches[row] for row in rows]))
            for row in rows:
                found[row] = [[next(losses) for _ in branch] for branch in branches[row]]
    return found


def _of_batch(model: Any, prefixes: Sequence[Tokens], branches: Sequence[Sequence[Tokens]]) -> list[float]:
    """Of all tokens of all branches, one after the other."""
    rows, owners, positions, before = [], [], [], []
    for prefix, own in zip(prefixes, branches, strict=True):
        row, owner, position = list(prefix), [0] * len(prefix), list(range(len(prefix)))
        places = []
        for number, branch in enumerate(own, start=1):
            places += [len(prefix) - 1, *range(len(row), len(row) + len(branch) - 1)]
            row += branch
            owner += [number] * len(branch)
            position += range(len(prefix), len(prefix) + len(branch))
        rows.append(row)
        owners.append(owner)
        positions.append(position)
        before.append(places)
    device = model.device
    tokens, _ = padded(rows, 0, left=False)
    owner_of, _ = padded(owners, _NOBODY, left=False)
    position_of, _ = padded(positions, 0, left=False)
    length = tokens.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool).tril()
    sees = earlier & ((owner_of[:, None, :] == 0) | (owner_of[:, None, :] == owner_of[:, :, None]))
    states = backbone(model)(
        input_ids=tokens.to(device),
        position_ids=position_of.to(device),
        attention_mask=sees[:, None].to(device),
        use_cache=False,
    ).last_hidden_state
    at = torch.tensor([row * length + place for row, places in enumerate(before) for place in places], device=device)
    targets = torch.tensor([token for own in branches for branch in own for token in branch], device=device)
    logits = model.get_output_embeddings()(states.flatten(0, 1)[at])
    losses: list[float] = functional.cross_entropy(logits.float(), targets, reduction="none").double().tolist()
    return losses
