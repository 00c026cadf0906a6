"""Files of tensors: the library reads what is written here, and any range of it is read back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load, save
from torch import Tensor

from llmcore.errors import CheckpointError
from llmcore.storage import Folder
from llmcore.train import tensor_files
from llmcore.train.tensor_files import Layout, TensorReader, TensorSpec, Wanted, write_tensors

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.uint8, torch.bool]


@st.composite
def tensors(draw: Any) -> dict[str, Tensor]:
    shapes = draw(st.lists(st.lists(st.integers(0, 5), max_size=3), min_size=1, max_size=6))
    made = {}
    for number, shape in enumerate(shapes):
        made[f"layer.{number}|weight"] = (
            torch.arange(torch.Size(shape).numel()).reshape(shape).to(draw(st.sampled_from(DTYPES)))
        )
    return made


def write(folder: Path, given: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    layout = Layout.of({name: TensorSpec.of(tensor) for name, tensor in given.items()}, metadata or {})
    entry = write_tensors(Folder(str(folder)), "file", layout, (given[name] for name in layout.specs))
    data = (folder / "file").read_bytes()
    assert entry.size == len(data)
    return data


@settings(max_examples=60, deadline=None)
@given(made=tensors())
def test_the_library_reads_what_is_written(tmp_path_factory: pytest.TempPathFactory, made: dict[str, Tensor]) -> None:
    folder = tmp_path_factory.mktemp("written")
    loaded = load(write(folder, made, {"format": "pt"}))
    assert loaded.keys() == made.keys()
    assert all(torch.equal(loaded[name], made[name]) and loaded[name].dtype == made[name].dtype for name in made)
    with safe_open(str(folder / "file"), "pt") as opened:
        assert opened.metadata() == {"format": "pt"}


@settings(max_examples=100, deadline=None)
@given(made=tensors(), data=st.data(), gap=st.sampled_from([0, 8, 1 << 16]), at_once=st.sampled_from([16, 64, 1 << 20]))
def test_any_ranges_are_read_back_of_our_files_and_of_the_librarys(
    tmp_path_factory: pytest.TempPathFactory, made: dict[str, Tensor], data: Any, gap: int, at_once: int
) -> None:
    folder = tmp_path_factory.mktemp("read")
    write(folder, made)
    (folder / "theirs").write_bytes(save(made))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensor_files, "_GAP_BYTES", gap)
        patch.setattr(tensor_files, "_READ_BYTES", at_once)
        for name in ("file", "theirs"):
            reader = TensorReader(Folder(str(folder)), name)
            wanted, expected = [], []
            for tensor, values in made.items():
                low = data.draw(st.integers(0, values.numel()))
                high = data.draw(st.integers(low, values.numel()))
                wanted.append(Wanted(tensor, low, torch.empty(high - low, dtype=values.dtype)))
                expected.append(values.reshape(-1)[low:high])
            reader.read(wanted)
            assert all(torch.equal(one.target, values) for one, values in zip(wanted, expected, strict=True))
            assert all(torch.equal(reader.read_whole(tensor), values) for tensor, values in made.items())
            reader.close()


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    made = {f"{number}": torch.full((1 << 16,), float(number)) for number in range(20)}
    write(tmp_path, made)
    reader = TensorReader(Folder(str(tmp_path)), "file")
    sizes: list[int] = []
    read_into = reader._read_into
    reader._read_into = lambda start, view: (sizes.append(len(view)), read_into(start, view))[1]  # type: ignore[method-assign]
    first, second = torch.empty(10), torch.empty(10)
    reader.read([Wanted("3", 5, first), Wanted("17", 0, second)])
    assert sizes == [40, 40]
    assert first.eq(3).all() and second.eq(17).all()


@pytest.mark.parametrize("data", [b"", b"\xff" * 8, b"\x08\0\0\0\0\0\0\0nothing!", b"\x02\0\0\0\0\0\0\0{}"[:9]])
def test_what_is_no_file_of_tensors_is_said_to_be_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(CheckpointError, match="file"):
        TensorReader(Folder(str(tmp_path)), "file")
