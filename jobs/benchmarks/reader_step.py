"""A step of a small GPT on rows of the stream, and on rows in memory, by turns."""

import time
from statistics import median
from typing import Any

__all__ = ["SHARE", "step_seconds"]

SHARE = 1
"""Rows of each rank in a step."""
SIZES = {"n_embd": 176, "n_layer": 4, "n_head": 4}
"""With a vocabulary of 50,000, about 10 M parameters."""
NUM_WARM_UP_STEPS = 3
NUM_STEPS = 40


def step_seconds(rows: Any, plan: Any, rank: int) -> dict[str, float]:
    """Median seconds of a step, rows taken included: `streamed`, and `in memory`; one kind of step after the other."""
    import torch

    from jobs.runtime.reader import batches_of, share_tables
    from llmcore.config.model import ModelSettings
    from llmcore.models.build import build_causal_lm, config_for_tokens
    from llmcore.objectives.causal_lm import CausalLM
    from llmcore.objectives.rows import packed_micro_batches
    from llmcore.storage import Folder
    from llmcore.tokens.shards import TokenShards
    from llmcore.train.prefetch import prefetched

    torch.set_num_threads(1)
    config = config_for_tokens(ModelSettings(family="gpt2", sizes=SIZES), TokenShards.open(Folder(plan.tokens)), 0)
    model = build_causal_lm(config, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    tables = share_tables(batches_of(rows, plan.share_size), plan, rank)
    batches = prefetched(packed_micro_batches(table, 1, SHARE)[0] for table in tables)
    held = next(batches)

    def step(batch: Any) -> None:
        optimizer.zero_grad()
        CausalLM().loss_sums(model, batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    seconds: dict[str, list[float]] = {"streamed": [], "in memory": []}
    for number in range(NUM_WARM_UP_STEPS + 2 * NUM_STEPS):
        kind = "in memory" if number % 2 else "streamed"
        started = time.perf_counter()
        step(held if kind == "in memory" else next(batches))
        if number >= NUM_WARM_UP_STEPS:
            seconds[kind].append(time.perf_counter() - started)
    return {kind: median(found) for kind, found in seconds.items()}
