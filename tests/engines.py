"""A tiny GPT on real ranks: its engine, its steps, and the same training in a plain loop."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import distributed

from llmcore.config.model import ModelSettings
from llmcore.config.train import TrainSettings
from llmcore.models.build import build_causal_lm, model_config
from llmcore.models.initialize import Home
from llmcore.models.packed import PackedBatch
from llmcore.objectives.causal_lm import CausalLM
from llmcore.tokens.order import RowOrder
from llmcore.train.deepspeed_config import num_micro_batches
from llmcore.train.precision import Precision
from llmcore.train.rows import step_rows

if TYPE_CHECKING:
    from llmcore.train.engine import Engine

__all__ = [
    "GLOBAL_BATCH",
    "NUM_STEPS",
    "batch_of",
    "micro_batches",
    "plain_losses",
    "steps",
    "tiny_engine",
    "tiny_model",
    "tiny_settings",
    "whole_state",
]

NUM_STEPS = 6
CPU = torch.device("cpu")
GLOBAL_BATCH = 5  # not divisible by 2: ranks hold unequal shares
ROWS = torch.randint(2, 50, (23, 16), generator=torch.Generator().manual_seed(1))
LENGTHS = [[16] if index % 3 else [4, 1, 9] for index in range(23)]


def tiny_settings(stage: int, **changes: Any) -> TrainSettings:
    return TrainSettings.model_validate(
        {
            "num_steps": NUM_STEPS,
            "global_batch_size": GLOBAL_BATCH,
            "micro_batch_size": 2,
            "zero_stage": stage,
            "precision": "fp32",
            "optimizer": {"learning_rate": 3e-3, "max_grad_norm": 0.5},
        }
        | changes
    )


def tiny_model(home: Home | None = None, *, width: int = 32, vocab_size: int = 50) -> torch.nn.Module:
    settings = ModelSettings(family="gpt2", sizes={"n_embd": width, "n_layer": 2, "n_head": 2})
    config = model_config(settings, vocab_size=vocab_size, sequence_length=16, eos_id=0, pad_id=1)
    return build_causal_lm(config, seed=3, home=home)


def batch_of(rows: np.ndarray) -> PackedBatch:
    if not len(rows):
        return PackedBatch.of_rows(torch.zeros(1, 16, dtype=torch.long), [[]])
    return PackedBatch.of_rows(ROWS[torch.from_numpy(rows)], [LENGTHS[row] for row in rows])


def tiny_engine(
    stage: int,
    precision: Precision = "fp32",
    num_steps: int = NUM_STEPS,
    *,
    objective: Any = None,
    build: Callable[[Home | None], torch.nn.Module] = tiny_model,
    device: torch.device = CPU,
    **changes: Any,
) -> Any:
    """An engine on this process group; `changes` are of the settings."""
    from llmcore.train.engine import Engine, parameter_home

    settings = tiny_settings(stage, num_steps=num_steps, **changes)
    model = build(parameter_home(settings, precision, device))
    return Engine(model, objective or CausalLM(), settings, num_steps=num_steps, precision=precision, device=device)


def micro_batches(engine: "Engine", step: int) -> list[PackedBatch]:
    """This rank's micro batches of a step."""
    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    rows = step_rows(RowOrder(len(ROWS), 7), GLOBAL_BATCH, world_size, rank, step)
    size, num_parts = engine.settings.micro_batch_size, num_micro_batches(engine.settings, world_size)
    return [batch_of(rows[size * part : size * (part + 1)]) for part in range(num_parts)]


def steps(engine: "Engine", first: int, last: int) -> list[float]:
    return [engine.step(step, micro_batches(engine, step)).loss for step in range(first, last)]


def whole_state(engine: "Engine") -> dict[str, torch.Tensor]:
    """A copy of all that this rank's optimizer keeps, and of the weights. A collective."""
    from llmcore.train.fragments import own_fragments
    from llmcore.train.resident import resident

    state = {
        f"{fragment.name}|{fragment.start}|{key}": view.detach().clone()
        for lot in resident(engine, own_fragments(engine), changed=False)
        for fragment in lot
        for key, view in fragment.state().items()
    }
    engine.let_go()
    for name, parameter in engine.model.named_parameters():
        with engine.whole(parameter) as weight:
            state[f"{name}|computed"] = weight.detach().clone().float()
    return state


def plain_losses(num_steps: int = NUM_STEPS) -> list[float]:
    """A plain loop on the whole global batch, in one process."""
    from llmcore.train.schedule import learning_rate_factor

    model, settings = tiny_model(), tiny_settings(0)
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.1},
            {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
        ],
        lr=3e-3,
        betas=(0.9, 0.95),
    )
    losses = []
    for step in range(num_steps):
        batch = batch_of(step_rows(RowOrder(len(ROWS), 7), GLOBAL_BATCH, 1, 0, step))
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * learning_rate_factor(settings.schedule, step, num_steps)
        optimizer.zero_grad()
        loss = CausalLM().loss_sums(model, batch).sum() / CausalLM().num_targets(batch)[0]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        losses.append(loss.item())
    return losses
