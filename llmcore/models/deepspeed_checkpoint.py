"""A checkpoint as DeepSpeed's own engine saves it, read into safetensors once.

It is a file of its own beside the training engine's, since models are found before anybody trains, and below it.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from pickle import UnpicklingError  # nosec B403
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals
from transformers import AutoModel

from llmcore.errors import CheckpointError, ConfigError
from llmcore.models.folder import INDEX, FolderWeights
from llmcore.models.foundation import foundation_config
from llmcore.models.initialize import laid_out
from llmcore.storage import Folder, readable_json

__all__ = ["check_weights", "write_master_weights"]

_WHOLE = "mp_rank_00_model_states.pt"
_SHARD_BYTES = 2 << 30
_FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_UNREADABLE = (OSError, EOFError, KeyError, ValueError, RuntimeError, UnpicklingError)


def write_master_weights(states: Path, target: Path, *, shard_bytes: int = _SHARD_BYTES) -> None:
    """Writes the fp32 weights of a checkpoint's `global_step…` folder as safetensors.

    Every ZeRO stage: from stage 1 on they are those of the optimizer's master copy, put together by DeepSpeed's own
    helper; at stage 0 those of the module, in the number format they have there. One process holds them all.

    Raises:
        ConfigError: A file is torn or missing, or holds more than tensors and plain values.
    """
    with _tensors_alone():
        try:
            _check_pickles(states)
            weights = _weights(states)
        except _UNREADABLE as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError(
                f"{states} is no whole checkpoint of DeepSpeed ({reason}): give one whose ranks have all written their "
                "files"
            ) from error
    sizes = {name: torch.empty(weight.shape, dtype=weight.dtype, device="meta") for name, weight in weights.items()}
    shards = split_torch_state_dict_into_shards(sizes, max_shard_size=shard_bytes)
    for file, names in shards.filename_to_tensors.items():
        # Views of one flat tensor: each is copied, since safetensors takes no shared memory.
        save_file({name: weights.pop(name).contiguous().clone() for name in names}, target / file, {"format": "pt"})
    if shards.is_sharded:
        index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
        (target / INDEX).write_bytes(readable_json(index))


def check_weights(folder: Path, states: Path) -> None:
    """Raises ConfigError where the safetensors in `folder`, of the checkpoint `states`, are not those of its config."""
    config = foundation_config(Folder(str(folder)))
    try:
        missing = FolderWeights(
            folder, laid_out(lambda: AutoModel.from_config(config, trust_remote_code=False))
        ).missing
        lacking = [name for name in missing if not name.startswith("pooler.")]
        reason = f"{lacking[:5]} are missing" if lacking else None
    except (CheckpointError, ConfigError) as error:
        reason = str(error).removeprefix(f"{folder}: ")
    if reason is not None:
        raise ConfigError(
            f"the weights of {states} are not those of the {config.model_type} in the config.json beside it ({reason}):"
            " save the transformers model itself, not one that wraps it or has adapters, with its own config"
        )


def _check_pickles(states: Path) -> None:
    """Raises ConfigError where a file would make something else than tensors and plain values."""
    for file in sorted(states.glob("*.pt")):
        if made := get_unsafe_globals_in_checkpoint(file):
            raise ConfigError(
                f"{file} is a pickle that makes {', '.join(sorted(made))}, which could run anything: only tensors and "
                "plain values are read; save the checkpoint without them (`client_state`)"
            )


def _weights(states: Path) -> dict[str, Any]:
    """All weights by name: tensors, or what becomes one by `contiguous()`."""
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    if (states / _WHOLE).exists():
        told = torch.load(states / _WHOLE, map_location="cpu", mmap=True, weights_only=True)
        if told["param_shapes"] is None:  # stage 0
            return dict(told["module"])
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        return dict(get_fp32_state_dict_from_zero_checkpoint(str(states.parent), states.name, lazy_mode=True))


@contextmanager
def _tensors_alone() -> Iterator[None]:
    """What is unpickled in the block are tensors and plain values, whatever its caller asks: nothing of it is run."""
    before, silenced = os.environ.get(_FORCE), logging.root.manager.disable
    logging.disable(logging.WARNING)  # DeepSpeed looks for an accelerator, and none is needed here
    os.environ[_FORCE] = "1"  # its helper would open anything
    try:
        from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
        from deepspeed.runtime.zero.config import ZeroStageEnum
        from deepspeed.utils.tensor_fragment import fragment_address

        with safe_globals([DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address]):
            yield
    finally:
        logging.disable(silenced)
        os.environ.pop(_FORCE)
        if before is not None:
            os.environ[_FORCE] = before
