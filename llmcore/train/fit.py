"""One run on one rank: from a recipe to a trained, exported model. Knows nothing of who started it."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import torch

from llmcore.config.train import TrainSettings
from llmcore.cost import Ledger
from llmcore.train.architecture import publish_architecture
from llmcore.train.begin import begin_engine, count_flops, dry_step_if_due
from llmcore.train.checkpoint import load_checkpoint, seed_rank
from llmcore.train.early_stopping import stops_early
from llmcore.train.energy import RanksEnergy
from llmcore.train.hooks import Pulse, Report, RunHooks, agreed_place, agreed_start
from llmcore.train.loop import train
from llmcore.train.meter import Meter
from llmcore.train.place import Place
from llmcore.train.prefetch import prefetched
from llmcore.train.probe import check_probe
from llmcore.train.progress import Progress
from llmcore.train.recipe import Recipe
from llmcore.train.swapping import own_swap_folder
from llmcore.train.telling import Watch, unwatched
from llmcore.train.writer import CheckpointWriter

__all__ = ["fit"]


def fit(
    recipe: Recipe,
    place: Place,
    *,
    device: torch.device,
    report: Report,
    pulse: Pulse,
    ledger: Ledger,
    watch: Watch = unwatched,
) -> dict[str, Any]:
    """Trains from the newest good checkpoint, or from the start, to the end. A collective of all ranks.

    Args:
        recipe: What is trained.
        place: Where it writes.
        device: This rank's device.
        report: Told of each validation, after what it tells of is exported and saved; every rank calls it.
        pulse: Called before each step: who watches this rank knows that it lives.
        ledger: Takes the time and FLOPs of this rank.
        watch: Told of numbers as they come, by rank 0 alone.

    Returns:
        Plain JSON of how it ended; the same on each rank, but for the ledger.
    """
    with own_swap_folder(recipe.settings) as settings:
        return _fit(recipe, settings, place, device, report, pulse, ledger, watch)


def _fit(
    recipe: Recipe,
    settings: TrainSettings,
    place: Place,
    device: torch.device,
    report: Report,
    pulse: Pulse,
    ledger: Ledger,
    watch: Watch,
) -> dict[str, Any]:
    energy, place = RanksEnergy(device), agreed_place(place)
    resumption = agreed_start(place)
    checkpoint = resumption.checkpoint
    start = Progress() if checkpoint is None else Progress(**checkpoint[1].about["progress"])
    batches: Iterator[Sequence[Any]] = iter(())
    last_step = min(recipe.num_steps, settings.stop_after or recipe.num_steps)
    has_steps = start.step < last_step and not stops_early(start, settings)
    if has_steps:
        batches = prefetched(recipe.step_batches(start.step))  # reads while the model is built
    engine = begin_engine(recipe, settings, device, ledger)
    seed_rank(settings.seed, start.step)
    if checkpoint is not None:
        if "saved" in checkpoint[1].about:
            watch({"checkpoint_time": checkpoint[1].about["saved"]})
        with ledger.measure("restart"):
            load_checkpoint(engine, *checkpoint)
            check_probe(engine, recipe.probe_batch(), *checkpoint)
    publish_architecture(engine, recipe.tokenizer, place.run)
    if has_steps:
        with ledger.measure("start_up", "first_batch"):
            batches = chain([next(batches)], batches)
    dry_step_if_due(recipe, engine, ledger)
    flops_per_token = count_flops(recipe, engine, ledger)
    meter = Meter(ledger, flops_per_token, start.tokens_seen)
    with CheckpointWriter(device) as writer:
        void = resumption.passed_over
        hooks = RunHooks(recipe, engine, place, start, report, pulse, ledger, meter, writer, void, watch)
        try:
            progress = train(engine, batches, start, settings, hooks, ledger)
            with ledger.measure("checkpoint"):
                writer.wait()
                if checkpoint is not None and progress.step == start.step:
                    hooks.tidy(checkpoint[0].name)
        finally:
            hooks.close()
    num_tokens = progress.tokens_seen - start.tokens_seen
    ledger.count(flops=num_tokens * flops_per_token, tokens=num_tokens, energy_j=energy.joules())
    seconds = ledger.to_json()["seconds"]
    trained_s = seconds["compute"] + seconds["data_wait"]
    stopped_early = stops_early(progress, settings)
    return {
        **recipe.told(),
        "progress": progress.to_json(),
        "train_loss": progress.last_loss,
        "num_steps": progress.step,
        "skipped_steps": progress.skipped_steps,
        "rollbacks": progress.rollbacks,
        "rows_consumed": progress.step * settings.global_batch_size,
        "tokens_seen": progress.tokens_seen,
        "num_parameters": engine.num_parameters,
        "num_trained_parameters": engine.num_trained_parameters,
        "data_wait_fraction": seconds["data_wait"] / trained_s if trained_s else 0.0,
        "tokens_per_s": num_tokens / trained_s if trained_s else 0.0,
        "precision": engine.precision,
        "world_size": engine.world_size,
        "zero_stage": settings.zero_stage,
        "resumed_at": start.step,
        "stopped": progress.step < last_step and not stopped_early,
        "stopped_early": stopped_early,
        "passed_over_checkpoints": list(resumption.passed_over.values()),
        "base_weights": getattr(engine.model, "llmcore_weights", None),
    }
