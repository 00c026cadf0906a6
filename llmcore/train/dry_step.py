"""Too little memory shows before the run, not where its longest batch happens to come."""

from typing import Any

import torch

from llmcore.errors import ConfigError
from llmcore.train.deepspeed_config import num_micro_batches
from llmcore.train.engine import Engine
from llmcore.train.fragments import allocate_state, restore_scalars, scalars

__all__ = ["dry_step"]


def dry_step(engine: Engine, longest: Any) -> None:
    """Takes a whole step of the longest micro batch, and throws its gradient away. A collective.

    Weights, optimizer state and random numbers are afterwards what they were, bit for bit; the optimizer's state is
    allocated besides, as the first real step would. Raises `ConfigError` where memory does not suffice.
    """
    settings, kept = engine.settings, scalars(engine)
    try:
        with torch.random.fork_rng(devices=[engine.device] if engine.device.type == "cuda" else []):
            allocate_state(engine)
            engine.step(0, [longest] * num_micro_batches(settings, engine.world_size), lambda _: True)
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        raise ConfigError(
            f"train.micro_batch_size={settings.micro_batch_size}: the longest batch does not fit the memory of "
            f"{engine.device} ({str(error).splitlines()[0]}). Lower it, or set train.activation_checkpointing, "
            "a higher train.zero_stage, more workers, or train.offload"
        ) from error
    restore_scalars(engine, kept)  # DeepSpeed takes the discarded gradient for an overflow


def _is_out_of_memory(error: RuntimeError) -> bool:
    """On a GPU it is an error of its own; on a CPU only the message tells."""
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
