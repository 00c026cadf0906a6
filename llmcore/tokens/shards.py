"""Token shards: Arrow IPC files without compression, one record batch each, read by memory map.

artifacts/tokens/<hash>/{train,validation,test}/part-00000.arrow, tokenizer/, unigram_counts.npy,
passport.json, manifest.json
"""

import io
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llmcore.errors import ShardError
from llmcore.storage import FileEntry, Folder, Manifest, read_manifest, write_file
from llmcore.tokens.schema import row_schema

__all__ = ["KIND", "PASSPORT", "SPLITS", "UNIGRAM_COUNTS", "TokenShards", "array_bytes", "shard_name", "write_shard"]

KIND = "tokens"
SPLITS = ("train", "validation", "test")
UNIGRAM_COUNTS = "unigram_counts.npy"
PASSPORT = "passport.json"


def shard_name(split: str, number: int) -> str:
    """Name of a shard inside the artifact."""
    return f"{split}/part-{number:05d}.arrow"


def write_shard(folder: Folder, name: str, rows: pa.Table) -> FileEntry:
    """Write rows of `row_schema` as one shard; its entry goes into the artifact's manifest."""
    sink = pa.BufferOutputStream()
    rows = rows.combine_chunks()
    with pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=max(1, rows.num_rows))
    return write_file(folder, name, sink.getvalue().to_pybytes())


def array_bytes(array: npt.NDArray[Any]) -> bytes:
    """An array as the bytes of an `.npy` file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


class TokenShards:
    """Published token shards, read by row number. Cheap to make and to pickle: files are mapped when read."""

    def __init__(self, folder: Folder, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._mapped: dict[str, pa.RecordBatch] = {}

    @classmethod
    def open(cls, folder: Folder) -> "TokenShards":
        """The token shards of a folder; ShardError where none are published."""
        manifest = read_manifest(folder)
        if manifest is None or manifest.kind != KIND:
            found = "no good manifest.json" if manifest is None else f"an artifact of kind {manifest.kind!r}"
            raise ShardError(f"{folder.url} has no token shards, but {found}: run `prepare` again")
        return cls(folder, manifest)

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenShards, (self.folder, self.manifest)

    @property
    def about(self) -> dict[str, Any]:
        """What the manifest says of the tokens."""
        return self.manifest.about

    @property
    def sequence_length(self) -> int:
        """Tokens in one row."""
        return int(self.about["sequence_length"])

    @property
    def vocab_size(self) -> int:
        """Entries of the tokenizer, special tokens included."""
        return int(self.about["vocab_size"])

    def num_rows(self, split: str) -> int:
        """Rows of a split."""
        return int(self._split(split)["num_rows"])

    def tokenizer_folder(self) -> Folder:
        """The tokenizer, as Hugging Face files."""
        return self.folder / "tokenizer"

    def unigram_counts(self) -> npt.NDArray[np.int64]:
        """int64 [vocab_size]: how often each token is a target in the train split.

        The first token of a piece never is: the loss is within documents.
        """
        stored = io.BytesIO(self.folder.read_bytes(UNIGRAM_COUNTS))
        counts: npt.NDArray[np.int64] = np.load(stored, allow_pickle=False)
        return counts

    def rows(self, split: str, indices: npt.NDArray[np.int64]) -> pa.Table:
        """Rows of a split, in the order asked.

        Args:
            split: one of `SPLITS`.
            indices: int64 [n], each 0 … num_rows(split)-1; may repeat.

        Returns:
            A table of `row_schema` with n rows in one chunk; its memory is its own, not the map's.

        Raises:
            ShardError: a shard is missing, torn or altered; the message names shard and row.
        """
        indices = np.asarray(indices, dtype=np.int64)
        num_rows = self.num_rows(split)
        if indices.size and (indices.min() < 0 or indices.max() >= num_rows):
            asked = f"{indices.min()} … {indices.max()}"
            raise ShardError(f"{self.folder.url}/{split} has rows 0 … {num_rows - 1}, asked for {asked}")
        if not indices.size:
            return row_schema(self.sequence_length).empty_table()
        starts = self._starts[split]
        shards = np.searchsorted(starts, indices, side="right") - 1
        by_shard = np.argsort(shards, kind="stable")
        numbers, firsts = np.unique(shards[by_shard], return_index=True)
        parts = [
            self._take(split, int(number), starts[number], indices[where])
            for number, where in zip(numbers, np.split(by_shard, firsts[1:]), strict=True)
        ]
        if len(parts) == 1:
            return parts[0]
        back = np.empty_like(by_shard)
        back[by_shard] = np.arange(len(by_shard))
        return pa.concat_tables(parts).combine_chunks().take(pa.array(back)).combine_chunks()

    def _split(self, split: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self.about["splits"][split]
        except KeyError as error:
            there = list(self.about["splits"])
            raise ShardError(f"{self.folder.url} has splits {there}, not {split!r}") from error
        return found

    @cached_property
    def _starts(self) -> dict[str, npt.NDArray[np.int64]]:
        """For each split the number of each shard's first row."""
        sizes = {
            split: np.array([shard["num_rows"] for shard in about["shards"]], dtype=np.int64)
            for split, about in self.about["splits"].items()
        }
        return {split: np.cumsum(size) - size for split, size in sizes.items()}

    @cached_property
    def _local(self) -> Path:
        return self.folder.as_local()

    def _shard(self, split: str, number: int) -> pa.RecordBatch:
        about = self._split(split)["shards"][number]
        name, num_rows = about["name"], int(about["num_rows"])
        if name not in self._mapped:
            batch = _map(self._local / name, f"{self.folder.url}/{name}")
            schema = row_schema(self.sequence_length)
            if batch.num_rows != num_rows or not batch.schema.equals(schema):
                found = f"{batch.num_rows} rows of {batch.schema.names}"
                rule = f"{num_rows} of {schema.names} with {self.sequence_length} tokens"
                raise ShardError(f"{self.folder.url}/{name} has {found}, its manifest says {rule}: prepare again")
            self._mapped[name] = batch
        return self._mapped[name]

    def _take(self, split: str, number: int, start: int, wanted: npt.NDArray[np.int64]) -> pa.Table:
        """Rows of one shard, checked: the right ones, with lengths and ids that can be."""
        batch = self._shard(split, number)
        name = f"{self.folder.url}/{self._split(split)['shards'][number]['name']}"
        try:
            rows = pa.Table.from_batches([batch.take(pa.array(wanted - start))])
        except (pa.ArrowException, IndexError) as error:
            raise ShardError(
                f"{name}: rows {wanted.min() - start} … {wanted.max() - start} cannot be read ({error})"
            ) from error
        wrong = _first_wrong(rows, wanted, self.vocab_size)
        if wrong is not None:
            row, reason = wrong
            where = f"row {wanted[row] - start} ({split} position {wanted[row]})"
            raise ShardError(f"{name}: {where} is altered: {reason}")
        return rows


def _map(path: Path, name: str) -> pa.RecordBatch:
    """The one record batch of a shard, mapped."""
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        return reader.get_batch(0)
    except (OSError, pa.ArrowException, IndexError) as error:
        raise ShardError(f"{name}: cannot be read from row 0 on ({error}): run `prepare` again") from error


def _first_wrong(rows: pa.Table, expected: npt.NDArray[np.int64], vocab_size: int) -> tuple[int, str] | None:
    """The first of the gathered rows that cannot be right, and why."""
    positions = rows["position"].to_numpy()
    if (positions != expected).any():
        row = int(np.argmax(positions != expected))
        return row, f"its position column says {positions[row]}"
    tokens = rows["tokens"].chunk(0)
    ids = tokens.flatten().to_numpy().reshape(len(tokens), -1)
    outside = (ids < 0) | (ids >= vocab_size)
    if outside.any():
        row, column = np.argwhere(outside)[0]
        return int(row), f"token {column} is {ids[row, column]}, the vocabulary has {vocab_size}"
    lengths = rows["document_lengths"].chunk(0)
    sums = np.diff(np.concatenate([[0], lengths.flatten().to_numpy().cumsum()])[lengths.offsets.to_numpy()])
    if (sums < 1).any() or (sums > ids.shape[1]).any():
        row = int(np.argmax((sums < 1) | (sums > ids.shape[1])))
        return row, f"its document lengths {lengths[row].as_py()} do not fit {ids.shape[1]} tokens"
    return None
