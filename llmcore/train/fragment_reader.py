"""Ranges of parameters out of the files of all ranks of a checkpoint, whatever ranges those hold."""

import json
from collections import defaultdict
from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple, Self

from torch import Tensor

from llmcore.errors import CheckpointError
from llmcore.storage import Folder, Manifest
from llmcore.train.resident import Fragment
from llmcore.train.snapshot import BUFFER, INDEX
from llmcore.train.tensor_files import TensorReader, Wanted

__all__ = ["FragmentReader", "rank_file"]


def rank_file(rank: int) -> str:
    """The name of a rank's file."""
    return f"rank-{rank:04d}.safetensors"


class _Piece(NamedTuple):
    """A range of a parameter that a file has."""

    file: str
    start: int
    size: int


class FragmentReader:
    """Reads a checkpoint's headers, and then the ranges that are asked for, and no more; local or remote."""

    def __init__(self, folder: Folder, manifest: Manifest) -> None:
        """Raises StorageError, and CheckpointError where a file has no header of ours."""
        self._folder = folder
        self._files = {name: TensorReader(folder, name) for name in manifest.files}
        self.shapes: dict[str, tuple[int, ...]] = {}
        """Shapes of the parameters, by name."""
        self._pieces: dict[str, list[_Piece]] = defaultdict(list)
        for file, reader in self._files.items():
            for entry in json.loads(reader.layout.metadata[INDEX]):
                self.shapes[entry["name"]] = tuple(entry["shape"])
                self._pieces[entry["name"]].append(_Piece(file, entry["start"], entry["size"]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for reader in self._files.values():
            reader.close()

    def read(self, fragments: Iterable[Fragment]) -> None:
        """Fills the tensors of the fragments' states. Raises CheckpointError for what is not there, or not whole."""
        wanted: dict[str, list[Wanted]] = defaultdict(list)
        for fragment in fragments:
            for key, target in fragment.state().items():
                for file, one in self._parts(fragment, key, target):
                    wanted[file].append(one)
        for file, ranges in wanted.items():
            self._files[file].read(ranges)

    def _parts(self, fragment: Fragment, key: str, target: Tensor) -> list[tuple[str, Wanted]]:
        shape = self.shapes.get(fragment.name)
        if shape != fragment.shape:
            there = None if shape is None else list(shape)
            raise CheckpointError(
                f"{self._folder.url}: {fragment.name} is {there} there and {list(fragment.shape)} here"
            )
        parts: list[tuple[str, Wanted]] = []
        stored, num_found = f"{fragment.name}|{key}", 0
        for file, start, size in self._pieces[fragment.name]:
            low, high = max(start, fragment.start), min(start + size, fragment.start + fragment.size)
            if low < high and stored in self._files[file].layout.specs:
                own = target[low - fragment.start : high - fragment.start]
                parts.append((file, Wanted(stored, low - start, own)))
                num_found += high - low
        if num_found != fragment.size:
            raise CheckpointError(
                f"{self._folder.url}: {num_found} of {fragment.size} elements of {stored} are there: it was "
                "written with another optimizer, or not whole"
            )
        return parts

    @property
    def buffers(self) -> list[str]:
        """Names of the model's buffers that are there."""
        names = self._files[rank_file(0)].layout.specs
        return [name.removesuffix(f"|{BUFFER}") for name in names if name.endswith(f"|{BUFFER}")]

    def buffer(self, name: str) -> Tensor:
        """A buffer of the model."""
        return self._files[rank_file(0)].read_whole(f"{name}|{BUFFER}")

    def of_rank(self, rank: int, name: str) -> Tensor | None:
        """A tensor that belongs to a rank rather than to the model; None where its file has none."""
        reader = self._files[rank_file(rank)]
        return reader.read_whole(name) if name in reader.layout.specs else None
