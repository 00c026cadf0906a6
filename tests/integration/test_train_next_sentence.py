"""BERT's two losses through the engine, on real ranks that hold unequal numbers of tokens and pairs."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import distributed, nn

from llmcore.config.train import TrainSettings
from llmcore.tokens.order import share
from llmcore.tokens.schema import in_run
from llmcore.train.deepspeed_config import num_micro_batches
from llmcore.train.schedule import learning_rate_factor
from tests.ranks import run_ranks
from tests.sentence_pairs import PIECES, bert, objective_of, plain_losses, rows_of

NUM_STEPS, GLOBAL_BATCH = 10, 3
STAGES = (0, 2, 3)
SETTINGS = {
    "num_steps": NUM_STEPS,
    "global_batch_size": GLOBAL_BATCH,
    "micro_batch_size": 1,
    "precision": "fp32",
    "optimizer": {"learning_rate": 3e-3, "max_grad_norm": 0.5},
}


def step_rows(step: int, part: range) -> tuple[pa.Table, list[int]]:
    """Rows of some positions of a step's global batch, and which of `PIECES` they are: the last has no pair."""
    positions = np.arange(part.start, part.stop, dtype=np.int64) + step * GLOBAL_BATCH
    numbers = positions % len(PIECES)
    return in_run(rows_of().take(pa.array(numbers)), positions, np.zeros_like(positions)), numbers.tolist()


def _losses_of_stages() -> dict[int, list[float]]:
    from llmcore.train.engine import Engine

    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    found = {}
    for stage in STAGES:
        settings = TrainSettings.model_validate({**SETTINGS, "zero_stage": stage})
        objective = objective_of(share=0.4)
        engine = Engine(bert(), objective, settings, num_steps=NUM_STEPS, precision="fp32", device=torch.device("cpu"))
        found[stage] = []
        for step in range(NUM_STEPS):
            rows, _ = step_rows(step, share(GLOBAL_BATCH, world_size, rank))
            result = engine.step(step, objective.micro_batches(rows, num_micro_batches(settings, world_size), 1))
            assert len(result.num_targets) == 2
            found[stage].append(result.loss)
    return found


def _plain_losses() -> list[float]:
    """Plain transformers and PyTorch in one process, one piece at a time."""
    model, settings = bert(), TrainSettings.model_validate(SETTINGS)
    model.set_attn_implementation("sdpa")  # type: ignore[operator]
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer, losses = torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.95)), []
    for step in range(NUM_STEPS):
        rows, numbers = step_rows(step, range(GLOBAL_BATCH))
        [batch] = objective_of(share=0.4).micro_batches(rows, 1, GLOBAL_BATCH)
        told = list(plain_losses(model, batch, torch.tensor(rows["tokens"].to_pylist()), numbers))
        both = [[piece[:2] for piece in told], [piece[2:] for piece in told]]
        loss = torch.zeros(())
        for part in both:
            logits, wanted = (torch.cat(column) for column in zip(*part, strict=True))
            loss = loss + nn.functional.cross_entropy(logits, wanted)
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * learning_rate_factor(settings.schedule, step, NUM_STEPS)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_losses_equal_a_plain_loop_at_every_stage(tmp_path: Path) -> None:
    one, two = run_ranks(2, _losses_of_stages, out=tmp_path)
    expected = _plain_losses()
    for stage in STAGES:
        assert one[stage] == two[stage] == pytest.approx(expected, rel=1e-5), f"stage {stage}"
