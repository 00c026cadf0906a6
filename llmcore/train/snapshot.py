"""What a rank's file of a checkpoint holds, copied to host memory while training waits for nothing else."""

import json
from typing import Any

import torch
from torch import Tensor, distributed

from llmcore.storage import FileEntry, Folder
from llmcore.train.engine import Engine
from llmcore.train.fragments import own_fragments
from llmcore.train.tensor_files import Layout, TensorSpec, write_tensors

__all__ = ["BUFFER", "CPU_RNG", "CUDA_RNG", "INDEX", "Snapshot", "kept_buffers"]

INDEX = "fragments"
"""Metadata of a rank's file: which range of which parameter its tensors are."""
CPU_RNG, CUDA_RNG = "rng", "rng|cuda"
BUFFER = "buffer"
"""`<name>|buffer` is a buffer of the model that is part of its state; rank 0 has them."""


class Snapshot:
    """One rank's state at one moment. Its memory, pinned where there is a GPU, is used again by the next one."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._memory = torch.empty(0, dtype=torch.uint8)
        self._layout = Layout.of({}, {})

    def take(self, engine: Engine) -> None:
        """Copies the engine's state; when it returns, training may change it."""
        index: list[dict[str, Any]] = []
        live: dict[str, Tensor] = {}
        for fragment in own_fragments(engine):
            index.append(
                {"name": fragment.name, "shape": fragment.shape, "start": fragment.start, "size": fragment.size}
            )
            live |= {f"{fragment.name}|{key}": view for key, view in fragment.state.items()}
        specs = {name: TensorSpec(torch.float32, tuple(view.shape)) for name, view in live.items()}
        rest = _rng_states(self._device)
        if distributed.get_rank() == 0:
            rest |= {f"{name}|{BUFFER}": buffer for name, buffer in kept_buffers(engine).items()}
        specs |= {name: TensorSpec.of(tensor) for name, tensor in rest.items()}
        self._layout = Layout.of(specs, {INDEX: json.dumps(index)})
        if self._memory.numel() != self._layout.num_bytes:
            on_gpu = self._device.type == "cuda"
            self._memory = torch.empty(self._layout.num_bytes, dtype=torch.uint8, pin_memory=on_gpu)
        for name, tensor in (live | rest).items():
            self._part(name).copy_(tensor.detach(), non_blocking=True)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    @property
    def num_bytes(self) -> int:
        """Of the tensors."""
        return self._layout.num_bytes

    def _part(self, name: str) -> Tensor:
        spec, start = self._layout.specs[name], self._layout.starts[name]
        return self._memory[start : start + spec.num_bytes].view(spec.dtype).view(spec.shape)

    def write(self, folder: Folder, name: str) -> FileEntry:
        """Writes the file, hashed on its way; nothing of it is copied once more. Raises StorageError."""
        return write_tensors(folder, name, self._layout, [self._memory])


def kept_buffers(engine: Engine) -> dict[str, Tensor]:
    """The model's buffers that are part of its state, by name; each rank has them all."""
    kept = engine.model.state_dict(keep_vars=True)
    return {name: buffer for name, buffer in engine.model.named_buffers() if name in kept}


def _rng_states(device: torch.device) -> dict[str, Tensor]:
    states = {CPU_RNG: torch.get_rng_state()}
    return states | ({CUDA_RNG: torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})
