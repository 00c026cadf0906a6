"""What a rank's file of a checkpoint holds, copied aside while training waits for nothing else."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from llmcore.storage import FileEntry, Folder
from llmcore.train.engine import Engine
from llmcore.train.fragments import own_fragments
from llmcore.train.resident import resident
from llmcore.train.tensor_files import Layout, TensorSpec, write_tensors

__all__ = ["BUFFER", "CPU_RNG", "CUDA_RNG", "INDEX", "Snapshot", "kept_buffers"]

INDEX = "fragments"
"""Metadata of a rank's file: which range of which parameter its tensors are."""
CPU_RNG, CUDA_RNG = "rng", "rng|cuda"
BUFFER = "buffer"
"""`<name>|buffer` is a buffer of the model that is part of its state; rank 0 has them."""
_ASIDE = "checkpoint"


class Snapshot:
    """One rank's state at one moment. Its memory, pinned where there is a GPU, is used again by the next one.

    Where the optimizer's state is on NVMe, the copy is too: its memory is a file there, which the kernel writes out.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._memory = torch.empty(0, dtype=torch.uint8)
        self._layout = Layout.of({}, {})

    def take(self, engine: Engine) -> None:
        """Copies the engine's state; when it returns, training may change it."""
        fragments = list(own_fragments(engine))
        index: list[dict[str, Any]] = [
            {"name": fragment.name, "shape": fragment.shape, "start": fragment.start, "size": fragment.size}
            for fragment in fragments
        ]
        specs = {
            f"{fragment.name}|{key}": TensorSpec(torch.float32, (fragment.size,))
            for fragment in fragments
            for key in fragment.keys
        }
        rest = _rng_states(self._device)
        if distributed.get_rank() == 0:
            rest |= {f"{name}|{BUFFER}": buffer for name, buffer in kept_buffers(engine).items()}
        specs |= {name: TensorSpec.of(tensor) for name, tensor in rest.items()}
        self._layout = Layout.of(specs, {INDEX: json.dumps(index)})
        if self._memory.numel() != self._layout.num_bytes:
            self._memory = self._new_memory(engine)
        for name, tensor in rest.items():
            self._part(name).copy_(tensor.detach(), non_blocking=True)
        for lot in resident(engine, fragments, changed=False):
            for fragment in lot:
                for key, view in fragment.state().items():
                    self._part(f"{fragment.name}|{key}").copy_(view.detach(), non_blocking=True)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _new_memory(self, engine: Engine) -> Tensor:
        num_bytes, offload = self._layout.num_bytes, engine.settings.offload
        if offload.optimizer == "nvme" and offload.folder is not None:
            file = Path(offload.folder, _ASIDE)
            file.unlink(missing_ok=True)  # of another size
            return torch.from_file(str(file), shared=True, size=num_bytes, dtype=torch.uint8)
        return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=self._device.type == "cuda")

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
