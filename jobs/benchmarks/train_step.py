"""Our steady step, as a worker of `pretrain` takes it, against a bare DeepSpeed loop on tensors in memory.

Two ranks on a local Ray, of one thread each. Ours reads its rows from Ray Data, runs the training loop, and writes its
metrics; the peer calls DeepSpeed on batches it was given before. Same model, same attention; by turns.
"""

import tempfile
import time
from collections.abc import Mapping
from statistics import median
from typing import Any

from jobs.benchmarks.rows import Row, in_turn
from jobs.runtime.options import RunOptions
from llmcore.config.common import ClusterSettings
from llmcore.storage import Folder

__all__ = ["step_rows"]

WORLD_SIZE = 2
ZERO_STAGE = 2
NUM_WARM_UP_STEPS = 4
NUM_REPETITIONS = 8
STEPS_PER_BLOCK = 6


def step_rows(tokens: Folder, model: Mapping[str, Any], global_batch: int, options: RunOptions) -> list[Row]:
    """Steps a second of ours and of the peer; the median of the blocks."""
    import ray

    from cluster.connect import connect
    from jobs.benchmarks.ranks import free_port
    from jobs.runtime.reader import OrderedSplit, StreamPlan, token_stream

    num_steps = NUM_WARM_UP_STEPS + NUM_REPETITIONS * STEPS_PER_BLOCK
    plan = StreamPlan(tokens.url, 0, global_batch, WORLD_SIZE, 0, num_steps)
    with connect(ClusterSettings(num_cpus=2), verbose=options.verbose), tempfile.TemporaryDirectory() as records:
        shards = OrderedSplit(lambda _: token_stream(plan)).configure({"train": None}, WORLD_SIZE, None, None)
        rank_of = ray.remote(num_cpus=0)(_on_rank)
        port = free_port()
        found = ray.get(
            [
                rank_of.remote(shard["train"], plan, rank, port, dict(model), records)
                for rank, shard in enumerate(shards)
            ]
        )
    slowest = {name: max(one[name] for one in found) for name in ("ours", "bare")}
    unit, peer = "steps/s", "bare DeepSpeed, tensors in memory"
    return [
        Row(
            f"a step of ours while reading, {found[0]['precision']}",
            1 / slowest["ours"],
            unit,
            peer,
            1 / slowest["bare"],
        )
    ]


def _on_rank(rows: Any, plan: Any, rank: int, port: int, model: dict[str, Any], records: str) -> dict[str, Any]:
    """Median seconds of a step of `ours`, and of the `bare` loop."""
    from jobs.benchmarks.ranks import join_ranks

    join_ranks(rank, WORLD_SIZE, port)
    import torch

    from jobs.benchmarks.bare_deepspeed import BareDeepSpeed
    from jobs.benchmarks.loops import Summed
    from jobs.runtime.reader import batches_of, share_tables
    from llmcore.config.train import TrainSettings
    from llmcore.cost import Ledger
    from llmcore.objectives.causal_lm import CausalLM
    from llmcore.objectives.rows import packed_micro_batches
    from llmcore.records import MetricsWriter
    from llmcore.train.engine import Engine
    from llmcore.train.loop import train
    from llmcore.train.precision import resolve_precision
    from llmcore.train.prefetch import prefetched
    from llmcore.train.progress import Progress

    settings = TrainSettings.model_validate(
        {
            "num_steps": plan.num_steps,
            "global_batch_size": plan.global_batch,
            "micro_batch_size": plan.share_size,
            "zero_stage": ZERO_STAGE,
            "schedule": {"kind": "constant", "warmup_fraction": 0},
        }
    )
    precision = resolve_precision(settings)
    engine = Engine(
        _model(plan, model),
        CausalLM(),
        settings,
        num_steps=plan.num_steps,
        precision=precision,
        device=torch.device("cpu"),
    )
    bare = BareDeepSpeed(Summed(_model(plan, model)), settings, precision)
    tables = share_tables(batches_of(rows, plan.share_size), plan, rank)
    batches = prefetched(packed_micro_batches(table, 1, plan.share_size) for table in tables)
    held = [next(batches) for _ in range(NUM_WARM_UP_STEPS)]
    hooks = _Hooks(MetricsWriter(Folder(records), flush_every_s=2.0) if rank == 0 else None)
    progress, ledger = Progress(step=len(held)), Ledger(WORLD_SIZE, "cpu")

    def ours(repetition: int) -> float:
        nonlocal progress
        last = settings.model_copy(update={"stop_after": progress.step + STEPS_PER_BLOCK})
        started = time.perf_counter()
        progress = train(engine, batches, progress, last, hooks, ledger)
        return (time.perf_counter() - started) / STEPS_PER_BLOCK

    def plain(repetition: int) -> float:
        started = time.perf_counter()
        for number in range(STEPS_PER_BLOCK):
            bare.step(held[number % len(held)])
        return (time.perf_counter() - started) / STEPS_PER_BLOCK

    for number, batch in enumerate(held):
        engine.step(number, batch)
        bare.step(batch)
    found = in_turn({"ours": ours, "bare": plain}, NUM_REPETITIONS)
    return {name: median(seconds) for name, seconds in found.items()} | {"precision": precision}


def _model(plan: Any, model: dict[str, Any]) -> Any:
    from llmcore.config.model import ModelSettings
    from llmcore.models.build import build_causal_lm, config_for_tokens
    from llmcore.tokens.shards import TokenShards

    config = config_for_tokens(ModelSettings.model_validate(model), TokenShards.open(Folder(plan.tokens)), 0)
    return build_causal_lm(config, seed=0)


class _Hooks:
    """Writes metrics as a run does; what comes after steps is no part of them."""

    def __init__(self, metrics: Any) -> None:
        self._metrics = metrics

    def stop(self) -> bool:
        return False

    def log(self, progress: Any, result: Any) -> None:
        if self._metrics is not None:
            self._metrics.write({"step": progress.step, "loss": result.loss, "grad_norm": result.grad_norm})

    def skipped(self, progress: Any, result: Any) -> Any:
        return progress

    def validate(self, progress: Any) -> dict[str, float]:
        return {}

    def export(self, progress: Any, metrics: dict[str, float]) -> Any:
        return progress

    def save(self, progress: Any) -> None:
        pass

    def report(self, progress: Any, metrics: dict[str, float]) -> None:
        pass
