"""Token shards: Arrow IPC files without compression, in blocks (record batches) of at least a megabyte, memory mapped.

artifacts/tokens/<hash>/{train,validation,test}/part-00000.arrow, tokenizer/, unigram_counts.npy,
passport.json, manifest.json
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmcore.errors import ShardError
from llmcore.storage import FileEntry, Folder, Manifest, read_manifest, write_file
from llmcore.tokens.blocks import Blocks
from llmcore.tokens.mixture import MixtureOrder, SourceRows
from llmcore.tokens.order import RowOrder
from llmcore.tokens.schema import ALONE, in_order, row_schema, token_type

__all__ = ["KIND", "PASSPORT", "SPLITS", "UNIGRAM_COUNTS", "ShardLayout", "TokenShards", "array_bytes", "shard_name"]
__all__ += ["write_shard"]

KIND = "tokens"
SPLITS = ("train", "validation", "test")
UNIGRAM_COUNTS = "unigram_counts.npy"
PASSPORT = "passport.json"
BLOCK_BYTES = 1 << 20
"""Least size of a block of tokens: what one ranged read fetches."""


def shard_name(split: str, number: int) -> str:
    """Name of a shard inside the artifact."""
    return f"{split}/part-{number:05d}.arrow"


@dataclass(frozen=True)
class ShardLayout:
    """Rows of a block, and of a shard, which is whole blocks; the last of each source and split may be shorter."""

    rows_per_block: int
    rows_per_shard: int

    @classmethod
    def of(cls, sequence_length: int, vocab_size: int, shard_bytes: int) -> "ShardLayout":
        """Blocks of a megabyte, or a little more, and shards of about `shard_bytes`."""
        row_bytes = sequence_length * token_type(vocab_size).byte_width
        rows_per_shard = max(1, shard_bytes // row_bytes)
        rows_per_block = min(-(-BLOCK_BYTES // row_bytes), rows_per_shard)
        return cls(rows_per_block, rows_per_shard // rows_per_block * rows_per_block)


def write_shard(folder: Folder, name: str, rows: pa.Table, rows_per_block: int) -> FileEntry:
    """Write rows of `row_schema` as one shard; its entry goes into the artifact's manifest."""
    sink = pa.BufferOutputStream()
    rows = rows.combine_chunks()
    with pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=rows_per_block)
    return write_file(folder, name, sink.getvalue().to_pybytes())


def array_bytes(array: npt.NDArray[Any]) -> bytes:
    """An array as the bytes of an `.npy` file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


class TokenShards:
    """Published token shards, read by row number. Cheap to make and to pickle: what is read is mapped, or fetched."""

    def __init__(self, folder: Folder, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._blocks = Blocks(folder)
        self._seen: set[str] = set()

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

    @property
    def rows_per_block(self) -> int:
        """Rows of every block but the last of a source."""
        return int(self.about["rows_per_block"])

    def order(self, seed: int) -> MixtureOrder:
        """The order in which a run reads the train split: by the weights of its sources, where they have some.

        Without weights all sources are one: each row comes once before any comes again.
        """
        sources = tuple(
            SourceRows(about["first_row"], about["num_rows"], about["weight"] or 0.0) for about in self.mixture
        )
        if not any(source.weight for source in sources):
            sources = (SourceRows(0, self.num_rows("train"), 1.0),)
        return MixtureOrder(sources, self.rows_per_block, seed)

    @property
    def mixture(self) -> list[Mapping[str, Any]]:
        """Of each source, in their order: `name`, `first_row`, `num_rows` and `num_tokens` of the train split; `weight`
        and `max_epochs`, or None.
        """
        return list(self.about["mixture"])

    def epochs_after(self, num_rows: int) -> dict[str, float]:
        """By source, how often a run has read it after so many rows."""
        passes = self.order(0).epochs_after(num_rows)
        names = [about["name"] for about in self.mixture]
        return dict(zip(names, passes if len(passes) == len(names) else passes * len(names), strict=True))

    def sample(self, split: str, num_rows: int) -> npt.NDArray[np.int64]:
        """So many rows of a split, int64, in their order: the same ones always, from all over it."""
        there = self.num_rows(split)
        if num_rows >= there:
            return np.arange(there, dtype=np.int64)
        return np.sort(RowOrder(there, 0).rows(np.arange(num_rows))[0])

    def tokenizer_folder(self) -> Folder:
        """The tokenizer, as Hugging Face files."""
        return self.folder / "tokenizer"

    def tokenizer_path(self) -> Path:
        """The tokenizer as a local folder: a copy, where the tokens are remote. Raises StorageError."""
        return self.folder.as_local("tokenizer/") / "tokenizer"

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
            return self._schema.empty_table()
        starts = self._starts[split]
        shards = np.searchsorted(starts, indices, side="right") - 1
        by_shard = np.argsort(shards, kind="stable")
        numbers, firsts = np.unique(shards[by_shard], return_index=True)
        self._blocks.fetch(self._wanted(split, shards, indices - starts[shards]))
        parts = [
            self._take(split, int(number), starts[number], indices[where])
            for number, where in zip(numbers, np.split(by_shard, firsts[1:]), strict=True)
        ]
        return in_order(parts, by_shard)

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

    @property
    def _schema(self) -> pa.Schema:
        return row_schema(self.sequence_length, self.vocab_size)

    def _wanted(
        self, split: str, shards: npt.NDArray[np.int64], places: npt.NDArray[np.int64]
    ) -> Iterator[tuple[str, int]]:
        """The blocks that have rows, given by shard and place in it; each once."""
        for shard, block in np.unique(np.stack([shards, places // self.rows_per_block]), axis=1).T.tolist():
            yield str(self._split(split)["shards"][shard]["name"]), block

    def _checked(self, split: str, number: int) -> str:
        """The name of a shard that is what the manifest says of it."""
        about = self._split(split)["shards"][number]
        name = str(about["name"])
        if name not in self._seen:
            reader = self._blocks.shard(name)
            expected = -(-int(about["num_rows"]) // self.rows_per_block)
            if reader.num_record_batches != expected or not reader.schema.equals(self._schema):
                found = f"{reader.num_record_batches} blocks of {reader.schema.names}"
                rule = f"{expected} of {self._schema.names} with {self.sequence_length} tokens"
                raise ShardError(f"{self.folder.url}/{name} has {found}, its manifest says {rule}: prepare again")
            self._seen.add(name)
        return name

    def _take(self, split: str, number: int, start: int, wanted: npt.NDArray[np.int64]) -> pa.Table:
        """Rows of one shard, checked: the right ones, with lengths and ids that can be."""
        name = self._checked(split, number)
        blocks, places = np.divmod(wanted - start, self.rows_per_block)
        by_block = np.argsort(blocks, kind="stable")
        numbers, firsts = np.unique(blocks[by_block], return_index=True)
        parts = []
        for block, where in zip(numbers, np.split(by_block, firsts[1:]), strict=True):
            batch = self._blocks.get(name, int(block))
            try:
                part = pa.Table.from_batches([batch.take(pa.array(places[where]))])
            except (pa.ArrowException, IndexError) as error:
                first, last = (wanted[where] - start)[[0, -1]]
                raise ShardError(f"{self.folder.url}/{name}: rows {first} … {last} cannot be read ({error})") from error
            wrong = _first_wrong(part, wanted[where], self.vocab_size)
            if wrong is not None:
                row, reason = wrong
                at = f"row {wanted[where][row] - start} ({split} position {wanted[where][row]})"
                raise ShardError(f"{self.folder.url}/{name}: {at} is altered: {reason}")
            parts.append(part)
        return in_order(parts, by_block)


def _first_wrong(rows: pa.Table, expected: npt.NDArray[np.int64], vocab_size: int) -> tuple[int, str] | None:
    """The first of the gathered rows that cannot be right, and why."""
    positions = rows["position"].to_numpy()
    if (positions != expected).any():
        row = int(np.argmax(positions != expected))
        return row, f"its position column says {positions[row]}"
    tokens = rows["tokens"].chunk(0)
    ids = tokens.flatten().to_numpy().reshape(len(tokens), -1)
    outside = ids >= vocab_size
    if outside.any():
        row, column = np.argwhere(outside)[0]
        return int(row), f"token {column} is {ids[row, column]}, the vocabulary has {vocab_size}"
    lengths = rows["document_lengths"].chunk(0)
    sums = np.diff(np.concatenate([[0], lengths.flatten().to_numpy().cumsum()])[lengths.offsets.to_numpy()])
    if (sums < 1).any() or (sums > ids.shape[1]).any():
        row = int(np.argmax((sums < 1) | (sums > ids.shape[1])))
        return row, f"its document lengths {lengths[row].as_py()} do not fit {ids.shape[1]} tokens"
    return _first_wrong_pair(rows, lengths)


def _first_wrong_pair(rows: pa.Table, lengths: pa.ListArray) -> tuple[int, str] | None:
    """The first row of which the second segments of its pieces cannot be where it says, and why."""
    offsets, labels = (rows[name].chunk(0) for name in ("sentence_offsets", "next_sentence"))
    counts = lengths.value_lengths()
    if offsets.value_lengths().equals(counts) and labels.value_lengths().equals(counts):
        starts, pieces, kinds = (column.flatten().to_numpy() for column in (offsets, lengths, labels))
        wrong = (starts < 0) | (starts >= pieces) | (np.abs(kinds) > 1) | ((starts == 0) != (kinds == ALONE))
        if not wrong.any():
            return None
        row = int(pc.list_parent_indices(lengths)[int(np.argmax(wrong))].as_py())
    else:
        row = next(n for n in range(len(counts)) if not len(offsets[n]) == len(labels[n]) == len(lengths[n]))
    told = f"sentence offsets {offsets[row].as_py()} and labels {labels[row].as_py()}"
    return row, f"its {told} do not fit its document lengths {lengths[row].as_py()}"
