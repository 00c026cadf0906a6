"""The row of a token shard, fixed for all objectives; `docs/architecture.md` says what each column means."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = [
    "ALONE",
    "FOLLOWS",
    "RANDOM",
    "PackedRows",
    "Second",
    "in_order",
    "in_run",
    "of_one_piece",
    "row_schema",
    "token_type",
]

FOLLOWS, RANDOM, ALONE = 0, 1, -1
"""What the second segment of a piece is, by BERT's own numbers: it follows the first, or is another document's; or the
piece has none."""


class Second(NamedTuple):
    """Where in its piece a second segment begins, and what it is; 0 and `ALONE` where there is none."""

    start: int = 0
    label: int = ALONE


def token_type(vocab_size: int) -> pa.DataType:
    """The smallest type that holds every id of a vocabulary: uint16, or uint32."""
    return pa.uint16() if vocab_size <= 1 << 16 else pa.uint32()


def row_schema(sequence_length: int, vocab_size: int) -> pa.Schema:
    """Columns of a token shard whose rows have `sequence_length` tokens of a vocabulary of `vocab_size`."""
    return pa.schema(
        [
            pa.field("tokens", pa.list_(token_type(vocab_size), sequence_length), nullable=False),
            pa.field("document_lengths", pa.list_(pa.int32()), nullable=False),
            pa.field("sentence_offsets", pa.list_(pa.int32()), nullable=False),
            pa.field("next_sentence", pa.list_(pa.int8()), nullable=False),
            pa.field("source", pa.list_(pa.int16()), nullable=False),
            pa.field("source_epoch", pa.list_(pa.int16()), nullable=False),
            pa.field("position", pa.int64(), nullable=False),
        ]
    )


@dataclass(frozen=True)
class PackedRows:
    """Rows before they are numbered: pieces laid one after the other, then padding.

    Attributes:
        tokens: int32 [rows, sequence_length].
        document_lengths: for each row the tokens of its pieces, in order.
        sources: for each row the source of each piece, an index into the manifest's `sources`.
        seconds: for each row the second segment of each piece; None where no piece has one.
    """

    tokens: npt.NDArray[np.int32]
    document_lengths: Sequence[Sequence[int]]
    sources: Sequence[Sequence[int]]
    seconds: Sequence[Sequence[Second]] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def to_table(self, vocab_size: int, first_position: int = 0) -> pa.Table:
        """The rows as a table of `row_schema`, numbered from `first_position`."""
        num_rows, sequence_length = self.tokens.shape
        schema = row_schema(sequence_length, vocab_size)
        kind = token_type(vocab_size)
        seconds = self.seconds if self.seconds is not None else [[Second()] * len(row) for row in self.sources]
        flat = pa.array(self.tokens.reshape(-1).astype(kind.to_pandas_dtype(), copy=False), type=kind)
        columns = [
            pa.FixedSizeListArray.from_arrays(flat, sequence_length),
            pa.array(self.document_lengths, type=schema.field("document_lengths").type),
            pa.array([[second.start for second in row] for row in seconds], type=schema.field("sentence_offsets").type),
            pa.array([[second.label for second in row] for row in seconds], type=schema.field("next_sentence").type),
            pa.array(self.sources, type=schema.field("source").type),
            pa.array([[0] * len(row) for row in self.sources], type=schema.field("source_epoch").type),
            pa.array(np.arange(first_position, first_position + num_rows), type=pa.int64()),
        ]
        return pa.Table.from_arrays(columns, schema=schema)


def in_run(rows: pa.Table, positions: npt.NDArray[np.int64], epochs: npt.NDArray[np.int64]) -> pa.Table:
    """Rows as a run reads them: each with its position in the run, and its pieces with the pass over their source."""
    source = rows["source"].combine_chunks()
    counts = source.value_lengths().to_numpy()
    passes = pa.array(np.repeat(epochs, counts), pa.int16())
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    columns = {"position": pa.array(positions), "source_epoch": pa.ListArray.from_arrays(offsets, passes)}
    for name, column in columns.items():
        where = rows.schema.get_field_index(name)
        rows = rows.set_column(where, rows.schema.field(where), column)
    return rows


def in_order(parts: Sequence[pa.Table], came: npt.NDArray[np.int64]) -> pa.Table:
    """Parts, whose rows came for the places `came`, as one table in the order of the places, in one chunk."""
    if len(parts) == 1 and bool((np.diff(came) > 0).all()):
        return parts[0].combine_chunks()
    back = np.empty_like(came)
    back[came] = np.arange(len(came))
    return pa.concat_tables(parts).combine_chunks().take(pa.array(back)).combine_chunks()


def of_one_piece(rows: pa.Table) -> pa.Table:
    """Rows as if the first piece of each filled it: the longest that there can be."""
    whole = pa.array([[rows.schema.field("tokens").type.list_size]] * rows.num_rows)
    for place, field in enumerate(rows.schema):
        if pa.types.is_list(field.type):
            column = whole if field.name == "document_lengths" else pc.list_slice(rows[field.name], 0, 1)
            rows = rows.set_column(place, field, column.cast(field.type))
    return rows
