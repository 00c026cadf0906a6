"""Each rank's part of each step: which rows, as which micro batches."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa
import torch

from llmcore.models.packed import PackedBatch
from llmcore.tokens.order import RowOrder, share

__all__ = ["endless_steps", "packed_micro_batches", "split_evenly", "step_rows"]

T = TypeVar("T")


def step_rows(order: RowOrder, global_batch: int, world_size: int, rank: int, step: int) -> np.ndarray:
    """Rows of one rank in one step, int64: its share of positions [step × global_batch, (step + 1) × global_batch)."""
    part = share(global_batch, world_size, rank)
    positions = np.arange(part.start, part.stop, dtype=np.int64) + step * global_batch
    return order.rows(positions)[0]


def split_evenly(items: Sequence[T], num_parts: int, size: int) -> list[Sequence[T]]:
    """Items in parts of at most `size`; the last ones may be empty, so that every rank has `num_parts`."""
    return [items[index * size : (index + 1) * size] for index in range(num_parts)]


def packed_micro_batches(rows: pa.Table, num_parts: int, size: int) -> list[PackedBatch]:
    """Rows of token shards as `num_parts` micro batches of at most `size` rows; an empty one is a row of padding."""
    length = rows.schema.field("tokens").type.list_size
    tokens = rows["tokens"].combine_chunks()
    flat = tokens.values.to_numpy(zero_copy_only=False)
    start = tokens.offset * length
    matrix = torch.from_numpy(flat[start : start + len(tokens) * length].astype(np.int64)).view(-1, length)
    lengths = rows["document_lengths"].to_pylist()
    batches = []
    for index in range(num_parts):
        part = slice(index * size, (index + 1) * size)
        some = matrix[part] if len(matrix[part]) else torch.zeros(1, length, dtype=torch.long)
        batches.append(PackedBatch.of_rows(some, lengths[part] or [[]]))
    return batches


def endless_steps(of_step: Callable[[int], Sequence[T]], first: int) -> Iterator[Sequence[T]]:
    """Micro batches of one step after the other, from step `first` on."""
    step = first
    while True:
        yield of_step(step)
        step += 1
