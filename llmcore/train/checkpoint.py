"""Checkpoints in fragments: complete or absent, and readable at any ZeRO stage and world size."""

from typing import Any

import numpy as np
import torch
from torch import distributed

from llmcore.errors import CheckpointError
from llmcore.records import checkpoint_name, software_versions
from llmcore.storage import Folder, Manifest
from llmcore.train.engine import Engine
from llmcore.train.fragment_reader import FragmentReader
from llmcore.train.fragments import (
    fragments_to_read,
    refresh_weights,
    restore_scalars,
    restore_step,
    scalars,
)
from llmcore.train.progress import Progress
from llmcore.train.resident import resident
from llmcore.train.snapshot import CPU_RNG, CUDA_RNG, kept_buffers
from llmcore.train.writer import CheckpointWriter

__all__ = ["about_checkpoint", "load_checkpoint", "save_checkpoint", "seed_rank"]


def about_checkpoint(engine: Engine, progress: Progress) -> dict[str, Any]:
    """What a checkpoint's manifest says besides its files: where the run stands, and how it is trained."""
    return {
        "progress": progress.to_json(),
        "rows_consumed": progress.step * engine.settings.global_batch_size,
        "world_size": engine.world_size,
        "zero_stage": engine.settings.zero_stage,
        "precision": engine.precision,
        "scalars": scalars(engine),
        "versions": software_versions(),
    }


def save_checkpoint(engine: Engine, checkpoints: Folder, progress: Progress, attempt: int) -> str:
    """Writes a checkpoint while training waits; returns its name. A collective.

    Raises `CheckpointError` on every rank, naming those that failed, and leaves no manifest then.
    """
    name = checkpoint_name(progress.step, attempt)
    with CheckpointWriter(engine.device) as writer:
        writer.save(engine, checkpoints / name, about_checkpoint(engine, progress))
    return name


def load_checkpoint(engine: Engine, folder: Folder, manifest: Manifest) -> Progress:
    """Puts the engine where the checkpoint's run stood, bit for bit at the same world size and stage.

    Each rank reads the ranges that it needs. Raises CheckpointError where they are not there.
    """
    with FragmentReader(folder, manifest) as reader:
        engine.let_go()  # what is gathered would be of the old weights
        own = {name for name, parameter in engine.model.named_parameters() if parameter.requires_grad}
        if missing := own ^ set(reader.shapes):
            raise CheckpointError(
                f"{folder.url} is of another model: parameters {sorted(missing)[:5]} are on one side only"
            )
        for lot in resident(engine, fragments_to_read(engine), changed=True):
            reader.read(lot)
        buffers = kept_buffers(engine)
        for name in reader.buffers:
            buffers[name].copy_(reader.buffer(name))
        progress = Progress(**manifest.about["progress"])
        restore_step(engine, progress.num_updates)
        restore_scalars(engine, manifest.about.get("scalars", {}))
        refresh_weights(engine)
        if manifest.about["world_size"] == engine.world_size:
            _restore_rng(reader, engine.device)
    return progress


def seed_rank(seed: int, step: int) -> None:
    """Seeds this rank's generators for a start after `step`, each rank's differently: for dropout.

    A checkpoint of as many ranks puts them where they stood; for others there is no such place.
    """
    state = np.random.SeedSequence([seed, step, distributed.get_rank()]).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0]))


def _restore_rng(reader: FragmentReader, device: torch.device) -> None:
    rank = distributed.get_rank()
    cpu, cuda = reader.of_rank(rank, CPU_RNG), reader.of_rank(rank, CUDA_RNG)
    if cpu is not None:
        torch.set_rng_state(cpu)
    if cuda is not None and device.type == "cuda":
        torch.cuda.set_rng_state(cuda, device)
