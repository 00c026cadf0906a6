"""Activations counted without memory, against the bytes that are alive after a real forward pass."""

from typing import Any

import pytest

from jobs.benchmarks.live_bytes import PeakOfLiveBytes
from llmcore.config.pretrain import Learnt
from llmcore.models.activations import count_activations
from llmcore.models.build import build_language_model, lay_out_language_model
from llmcore.train.layers import checkpoint_activations
from tests.architectures import ARCHITECTURES, batch_for, tiny_config

WITHIN = 0.1


@pytest.mark.parametrize(("family", "learnt", "sizes"), ARCHITECTURES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_is_counted_is_what_is_alive(
    family: str, learnt: Learnt, sizes: dict[str, Any], checkpointing: bool
) -> None:
    config = tiny_config(family, sizes)
    objective, batch = batch_for(learnt)
    laid_out = lay_out_language_model(learnt, config)
    counted = count_activations(laid_out, lambda given: objective.loss_sums(laid_out, given), batch)

    model = build_language_model(learnt, config, seed=0)
    if checkpointing:
        checkpoint_activations(model)
    objective.loss_sums(model, batch)  # what is made once, and kept for other batches
    with PeakOfLiveBytes() as alive:
        before = alive.of(model.parameters())
        loss = objective.loss_sums(model, batch)
        held = alive.now - before
    assert loss.requires_grad
    assert counted.held(checkpointing=checkpointing) == pytest.approx(held, rel=WITHIN)
    assert counted.peak(checkpointing=checkpointing) >= held
