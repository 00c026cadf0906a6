"""Training by plain PyTorch and plain transformers: one process, one document at a time, nothing of ours but settings.

What the loop of this package is held against. A document is what a plain model is given: its inputs, and labels with
-100 where nothing is to be predicted, of each part of the loss.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmcore.config.train import TrainSettings

__all__ = ["Document", "plain_losses"]

Document = tuple[dict[str, Tensor], tuple[Tensor, ...]]
"""Inputs [1, length], and the labels of each part, in the order of the model's outputs."""


def plain_losses(
    model: nn.Module,
    settings: TrainSettings,
    documents_of: Callable[[int], Sequence[Document]],
    logits_of: Callable[[Any], Sequence[Tensor]],
    num_steps: int,
) -> list[float]:
    """The loss of each step (nats).

    Args:
        model: of transformers, trained in place.
        settings: AdamW without decay of vectors, clipping, a linear warm-up to a constant learning rate.
        documents_of: those of the global batch of a step.
        logits_of: of the model's output, those of each part, [1, places, classes].
        num_steps: how many.
    """
    assert settings.schedule.kind == "constant" and settings.num_steps is not None
    optimizer, warm_up = settings.optimizer, round(settings.schedule.warmup_fraction * settings.num_steps)
    matrices = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    adam = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": optimizer.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        betas=optimizer.betas,
        eps=optimizer.epsilon,
    )
    losses = []
    for step in range(num_steps):
        for group in adam.param_groups:
            group["lr"] = optimizer.learning_rate * min(1.0, (step + 1) / max(1, warm_up))
        adam.zero_grad()
        documents = documents_of(step)
        counts = [
            sum(int((part != -100).sum()) for part in parts) for parts in zip(*(d[1] for d in documents), strict=True)
        ]
        loss = torch.zeros(())
        for inputs, labels in documents:
            logits = logits_of(model(**inputs))
            for of_part, wanted, count in zip(logits, labels, counts, strict=True):
                loss = loss + functional.cross_entropy(of_part[0], wanted[0], reduction="sum") / max(1, count)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), optimizer.max_grad_norm)
        adam.step()
        losses.append(loss.item())
    return losses
