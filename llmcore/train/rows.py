"""Each rank's part of each step: which rows, as which micro batches."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from llmcore.tokens.order import RowOrder, share

__all__ = ["endless_steps", "split_evenly", "step_rows"]

T = TypeVar("T")


def step_rows(order: RowOrder, global_batch: int, world_size: int, rank: int, step: int) -> np.ndarray:
    """Rows of one rank in one step, int64: its share of positions [step × global_batch, (step + 1) × global_batch)."""
    part = share(global_batch, world_size, rank)
    positions = np.arange(part.start, part.stop, dtype=np.int64) + step * global_batch
    return order.rows(positions)[0]


def split_evenly(items: Sequence[T], num_parts: int, size: int) -> list[Sequence[T]]:
    """Items in parts of at most `size`; the last ones may be empty, so that every rank has `num_parts`."""
    return [items[index * size : (index + 1) * size] for index in range(num_parts)]


def endless_steps(of_step: Callable[[int], Sequence[T]], first: int) -> Iterator[Sequence[T]]:
    """Micro batches of one step after the other, from step `first` on."""
    step = first
    while True:
        yield of_step(step)
        step += 1
