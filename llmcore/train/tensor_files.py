"""Safetensors files as streams: hashed while they are written, and read range by range, wherever they are.

The library writes local files of tensors that are all there, and reads local files. A rank's state may be most of its
host's memory, and a checkpoint may lie in an object store.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from llmcore.errors import CheckpointError
from llmcore.storage import FileEntry, Folder, parsed_json, write_file

__all__ = ["Layout", "TensorReader", "TensorSpec", "Wanted", "write_tensors"]

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}
_CHUNK_BYTES = 8 << 20
_GAP_BYTES = 64 << 10
"""What lies between two wanted ranges is read too, if it is less: a request costs more than that."""
_READ_BYTES = 64 << 20
_LONGEST_HEADER = 100_000_000
"""As the library has it."""


class TensorSpec(NamedTuple):
    """What a file's header says of a tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> "TensorSpec":
        """That of a tensor."""
        return cls(tensor.dtype, tuple(tensor.shape))

    @property
    def num_bytes(self) -> int:
        """Of its data."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Layout:
    """Where the tensors of a file stand in its data: without gaps, wide types first, so that each is aligned."""

    specs: dict[str, TensorSpec]
    starts: dict[str, int]
    metadata: dict[str, str]

    @classmethod
    def of(cls, specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]) -> "Layout":
        """The layout of tensors to be written, otherwise in the order given."""
        ordered = dict(sorted(specs.items(), key=lambda item: -item[1].dtype.itemsize))
        starts, start = {}, 0
        for name, spec in ordered.items():
            starts[name] = start
            start += spec.num_bytes
        return cls(ordered, starts, dict(metadata))

    @property
    def num_bytes(self) -> int:
        """Of all data."""
        return sum(spec.num_bytes for spec in self.specs.values())

    def header(self) -> bytes:
        """What stands before the data."""
        entries: dict[str, Any] = {"__metadata__": self.metadata}
        for name, (dtype, shape) in self.specs.items():
            start = self.starts[name]
            stop = start + self.specs[name].num_bytes
            entries[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [start, stop]}
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    @classmethod
    def parse(cls, text: bytes) -> "Layout":
        """The layout that a header tells of, less its first eight bytes. Raises ValueError and KeyError."""
        entries = parsed_json(text)
        metadata = entries.pop("__metadata__", {})
        specs = {name: TensorSpec(_DTYPES[entry["dtype"]], tuple(entry["shape"])) for name, entry in entries.items()}
        return cls(specs, {name: entry["data_offsets"][0] for name, entry in entries.items()}, metadata)


def write_tensors(folder: Folder, name: str, layout: Layout, data: Iterable[Tensor]) -> FileEntry:
    """Writes a file of tensors on the CPU, contiguous, in the layout's order (or one that holds the bytes of all).

    Each is asked for when its turn has come, so that only one need be there. Raises StorageError.
    """

    def pieces() -> Iterator[memoryview | bytes]:
        yield layout.header()
        for tensor in data:
            view = _bytes_of(tensor)
            for start in range(0, len(view), _CHUNK_BYTES):
                yield view[start : start + _CHUNK_BYTES]

    return write_file(folder, name, pieces())


def _bytes_of(tensor: Tensor) -> memoryview:
    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]  # numpy's arrays are


class Wanted(NamedTuple):
    """A range of a stored tensor, flattened, and where its elements go: a flat tensor of as many, on any device."""

    tensor: str
    start: int
    target: Tensor


class TensorReader:
    """Ranges of the tensors of one file; what is not asked for is not read."""

    def __init__(self, folder: Folder, name: str) -> None:
        """Reads the header. Raises StorageError, and CheckpointError where it is none."""
        self._url = f"{folder.url}/{name}"
        self._file = folder.open_at_random(name)
        try:
            length = int.from_bytes(self._bytes_at(0, 8), "little")
            if length > _LONGEST_HEADER:
                raise ValueError(f"it would have {length} bytes")
            self.layout = Layout.parse(self._bytes_at(8, length))
        except (ValueError, KeyError) as error:
            raise CheckpointError(f"{self._url} has no header of a safetensors file: {error}") from error
        self._data_start = 8 + length

    def _bytes_at(self, start: int, size: int) -> bytes:
        buffer = bytearray(size)
        self._read_into(start, memoryview(buffer))
        return bytes(buffer)

    def _read_into(self, start: int, view: memoryview) -> None:
        self._file.seek(start)
        while view:
            num_read = self._file.readinto(view)  # type: ignore[attr-defined]
            if not num_read:
                raise CheckpointError(f"{self._url} ends early")
            view = view[num_read:]

    def read(self, wanted: Iterable[Wanted]) -> None:
        """Fills the targets, with as few reads as their places in the file allow."""
        placed = [part for one in wanted if one.target.numel() for part in self._placed(one)]
        for run in _runs(sorted(placed, key=lambda part: part.start)):
            first = run[0].start
            data = torch.empty(max(part.stop for part in run) - first, dtype=torch.uint8)
            self._read_into(self._data_start + first, _bytes_of(data))
            for part in run:
                part.target.copy_(data[part.start - first : part.stop - first].view(part.dtype))

    def read_whole(self, name: str) -> Tensor:
        """One tensor."""
        spec = self.layout.specs[name]
        flat = torch.empty(math.prod(spec.shape), dtype=spec.dtype)
        self.read([Wanted(name, 0, flat)])
        return flat.view(spec.shape)

    def _placed(self, wanted: Wanted) -> "Iterator[_Placed]":
        dtype = self.layout.specs[wanted.tensor].dtype
        start = self.layout.starts[wanted.tensor] + wanted.start * dtype.itemsize
        for target in torch.split(wanted.target, _READ_BYTES // dtype.itemsize):
            stop = start + target.numel() * dtype.itemsize
            yield _Placed(start, stop, dtype, target)
            start = stop

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()


class _Placed(NamedTuple):
    """A part of a wanted range by its bytes in the data."""

    start: int
    stop: int
    dtype: torch.dtype
    target: Tensor


def _runs(placed: Iterable[_Placed]) -> Iterator[list[_Placed]]:
    """Neighbours, to be read at once."""
    run: list[_Placed] = []
    for one in placed:
        if run and (one.start - run[-1].stop > _GAP_BYTES or one.stop - run[0].start > _READ_BYTES):
            yield run
            run = []
        run.append(one)
    if run:
        yield run
