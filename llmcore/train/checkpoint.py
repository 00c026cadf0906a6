"""Checkpoints in fragments: complete or absent, and readable at any ZeRO stage and world size."""

import json
from collections.abc import Iterable
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, distributed

from llmcore.errors import CheckpointError, StorageError
from llmcore.storage import FileEntry, Folder, Manifest, write_file, write_manifest
from llmcore.train.engine import Engine
from llmcore.train.fragments import (
    STATE_KEYS,
    Fragment,
    fragments_to_read,
    own_fragments,
    prepare_to_load,
    refresh_weights,
    restore_step,
)
from llmcore.train.progress import Progress, checkpoint_name

__all__ = ["load_checkpoint", "save_checkpoint"]

_KIND = "checkpoint"
_INDEX = "fragments"
_RNG = "rng"


def save_checkpoint(engine: Engine, checkpoints: Folder, progress: Progress, attempt: int) -> str:
    """Writes one file a rank, then, when all have, the manifest. A collective.

    Returns its name. Raises `CheckpointError` on every rank, naming those that failed, and leaves no manifest then.
    """
    rank = distributed.get_rank()
    name = checkpoint_name(progress.step, attempt)
    folder = checkpoints / name
    outcome: FileEntry | str
    try:
        outcome = write_file(folder, f"rank-{rank:04d}.safetensors", _serialized(own_fragments(engine)))
    except (StorageError, OSError) as error:
        outcome = f"rank {rank}: {error}"
    outcomes: list[Any] = [None] * engine.world_size
    distributed.all_gather_object(outcomes, outcome)
    failures = [outcome for outcome in outcomes if isinstance(outcome, str)]
    if failures:
        raise CheckpointError(f"checkpoint {folder.url} is not written: " + "; ".join(failures))
    if rank == 0:
        about = {
            "progress": progress.to_json(),
            "world_size": engine.world_size,
            "zero_stage": engine.settings.zero_stage,
            "precision": engine.precision,
        }
        write_manifest(folder, _KIND, outcomes, about)
    distributed.barrier()
    return name


def _serialized(fragments: Iterable[Fragment]) -> bytes:
    tensors: dict[str, Tensor] = {_RNG: torch.get_rng_state()}
    index = []
    for fragment in fragments:
        index.append({"name": fragment.name, "shape": fragment.shape, "start": fragment.start, "size": fragment.size})
        for key, view in fragment.state.items():
            tensors[f"{fragment.name}|{key}"] = view.detach().to("cpu", torch.float32, copy=True)
    return safetensors.torch.save(tensors, metadata={_INDEX: json.dumps(index)})


def load_checkpoint(engine: Engine, folder: Folder, manifest: Manifest) -> Progress:
    """Puts the engine where the checkpoint's run stood, bit for bit at the same world size and stage."""
    reader = _Reader(folder, manifest)
    prepare_to_load(engine)
    wanted = list(fragments_to_read(engine))
    missing = {name for name, p in engine.model.named_parameters() if p.requires_grad} ^ set(reader.names)
    if missing:
        raise CheckpointError(
            f"{folder.url} is of another model: parameters {sorted(missing)[:5]} are on one side only"
        )
    for fragment in wanted:
        for key, view in fragment.state.items():
            view.copy_(reader.read(fragment, key))
    progress = Progress(**manifest.about["progress"])
    restore_step(engine, progress.step)
    refresh_weights(engine)
    if manifest.about["world_size"] == engine.world_size:
        torch.set_rng_state(reader.rng_state(distributed.get_rank()))
    return progress


class _Reader:
    """Ranges of parameters out of the files of all ranks."""

    def __init__(self, folder: Folder, manifest: Manifest) -> None:
        self._folder = folder
        local = folder.as_local()
        self._files: dict[str, Any] = {name: safe_open(str(local / name), "pt") for name in manifest.files}
        self._pieces: dict[str, list[tuple[int, int, str, tuple[int, ...]]]] = {}
        for file, handle in self._files.items():
            for entry in json.loads(handle.metadata()[_INDEX]):
                piece = (entry["start"], entry["size"], file, tuple(entry["shape"]))
                self._pieces.setdefault(entry["name"], []).append(piece)

    @property
    def names(self) -> list[str]:
        return list(self._pieces)

    def read(self, fragment: Fragment, key: str) -> Tensor:
        assert key in STATE_KEYS
        out = torch.empty(fragment.size, dtype=torch.float32)
        stop, num_read = fragment.start + fragment.size, 0
        for start, size, file, shape in self._pieces[fragment.name]:
            if shape != fragment.shape:
                raise CheckpointError(
                    f"{self._folder.url}: {fragment.name} is {list(shape)} there and {list(fragment.shape)} here"
                )
            low, high = max(start, fragment.start), min(start + size, stop)
            if low < high:
                stored = self._files[file].get_slice(f"{fragment.name}|{key}")[low - start : high - start]
                out[low - fragment.start : high - fragment.start] = stored
                num_read += high - low
        if num_read != fragment.size:
            raise CheckpointError(
                f"{self._folder.url}: {num_read} of {fragment.size} elements of {fragment.name} are there"
            )
        return out

    def rng_state(self, rank: int) -> Tensor:
        return self._files[f"rank-{rank:04d}.safetensors"].get_tensor(_RNG)  # type: ignore[no-any-return]
