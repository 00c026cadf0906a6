"""Which row of which source comes next: a pure function of (sizes and weights of the sources, seed, position).

Sources take turns by a schedule of `PERIOD` rows, which is repeated: after any number of rows each source has had its
share of them, to within one row. Inside a source the order is shuffled twice: its blocks over all of it, and the rows
over a window of blocks. So a reader touches few blocks at a time, however many there are, and what is far apart on the
storage still meets in one batch. Nothing is stored but the schedule, and nothing is proportional to the number of rows.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from llmcore.tokens.order import RowOrder

__all__ = ["PERIOD", "BlockOrder", "MixtureOrder", "SourceRows", "schedule", "shares_of"]

Int64s = npt.NDArray[np.int64]

PERIOD = 10_000
"""Rows after which the schedule repeats: weights are kept to a ten-thousandth."""
BLOCKS_PER_WINDOW = 64


@dataclass(frozen=True)
class BlockOrder:
    """The order of one source's rows: blocks of `rows_per_block` shuffled, and the rows of each window of them.

    Only the last block, `num_rows` modulo `rows_per_block`, may be shorter. Each epoch has an order of its own.
    """

    num_rows: int
    rows_per_block: int
    seed: int
    blocks_per_window: int = BLOCKS_PER_WINDOW

    def rows(self, positions: Int64s) -> tuple[Int64s, Int64s]:
        """Rows and epochs of positions, int64 of any shape; see `RowOrder.rows`."""
        positions = np.asarray(positions, dtype=np.int64)
        epochs, offsets = np.divmod(positions, self.num_rows)
        short = self._short_places(epochs)
        windows = self._places(offsets, short) // self.blocks_per_window
        starts = self._starts(windows * self.blocks_per_window, short)
        stops = self._starts(np.minimum((windows + 1) * self.blocks_per_window, self._num_blocks), short)
        inside = starts + self._shuffled(epochs, windows, stops - starts, offsets - starts)
        places = self._places(inside, short)
        blocks, _ = self._blocks.rows(epochs * self._num_blocks + places)
        return blocks * self.rows_per_block + inside - self._starts(places, short), epochs

    @property
    def _num_blocks(self) -> int:
        return -(-self.num_rows // self.rows_per_block)

    @property
    def _missing(self) -> int:
        """Rows that the last block lacks."""
        return self._num_blocks * self.rows_per_block - self.num_rows

    @cached_property
    def _blocks(self) -> RowOrder:
        return RowOrder(self._num_blocks, self.seed)

    def _short_places(self, epochs: Int64s) -> Int64s:
        """Where, among the shuffled blocks of each epoch, the short one is; behind all of them if there is none."""
        if not self._missing:
            return np.full(epochs.shape, self._num_blocks)
        distinct, where = np.unique(epochs, return_inverse=True)
        places = self._blocks.places(np.full(distinct.shape, self._num_blocks - 1), distinct)
        return places[where].reshape(epochs.shape)

    def _starts(self, places: Int64s, short: Int64s) -> Int64s:
        """Rows before the block at each place."""
        return places * self.rows_per_block - np.where(places > short, self._missing, 0)

    def _places(self, offsets: Int64s, short: Int64s) -> Int64s:
        """The place of the block that has each row."""
        before = offsets // self.rows_per_block
        after = (offsets + self._missing) // self.rows_per_block
        return np.where(before < short, before, np.maximum(short, after))

    def _shuffled(self, epochs: Int64s, windows: Int64s, sizes: Int64s, offsets: Int64s) -> Int64s:
        """Offsets in each window, permuted there."""
        num_windows = -(-self._num_blocks // self.blocks_per_window)
        numbers = epochs * num_windows + windows  # of all windows of all epochs: each has a permutation of its own
        shuffled = np.empty_like(offsets)
        for number in np.unique(numbers):
            here = numbers == number
            size = int(sizes[here][0])
            order = RowOrder(size, self.seed + 1)
            shuffled[here] = order.rows(int(number) * size + offsets[here])[0]
        return shuffled


@dataclass(frozen=True)
class SourceRows:
    """Consecutive rows that are of one source, and how often they come, against the others; 0 for none."""

    first_row: int
    num_rows: int
    weight: float


@dataclass(frozen=True)
class MixtureOrder:
    """The order in which the rows of several sources are read, epoch after epoch of each, under one seed."""

    sources: tuple[SourceRows, ...]
    rows_per_block: int
    seed: int

    def rows(self, positions: Int64s) -> tuple[Int64s, Int64s]:
        """Rows, and for each the pass over its source.

        Args:
            positions: int64 of any shape, each 0 or more: what a run has consumed before this row.

        Returns:
            (row, epoch), int64 of the same shape.
        """
        positions = np.asarray(positions, dtype=np.int64)
        numbers, counts = self.turns(positions)
        rows, epochs = np.empty_like(positions), np.empty_like(positions)
        for number, source in enumerate(self.sources):
            here = numbers == number
            if here.any():
                order = BlockOrder(source.num_rows, self.rows_per_block, self.seed + number)
                found, epochs[here] = order.rows(counts[here])
                rows[here] = source.first_row + found
        return rows, epochs

    def turns(self, positions: Int64s) -> tuple[Int64s, Int64s]:
        """Whose turn each position is, and how many turns that source has had before."""
        if positions.size and positions.min() < 0:
            raise ValueError(f"position {positions.min()} is negative: padding has no row")
        shares = shares_of(tuple(source.weight for source in self.sources))
        order, before = schedule(shares)
        periods, places = np.divmod(positions, len(order))
        numbers = order[places]
        return numbers, periods * np.array(shares)[numbers] + before[places]

    def epochs_after(self, num_rows: int) -> list[float]:
        """How often each source has been read after so many rows of the mixture."""
        shares = shares_of(tuple(source.weight for source in self.sources))
        total = sum(shares)
        return [
            num_rows * part / total / source.num_rows if part else 0.0
            for part, source in zip(shares, self.sources, strict=True)
        ]


def shares_of(weights: tuple[float, ...]) -> tuple[int, ...]:
    """Turns of each source in one period, by the method of largest remainders; all turns, where there is one source.

    Raises ValueError for a weight that is positive and gives no turn.
    """
    total = sum(weights)
    exact = [weight / total * PERIOD for weight in weights]
    shares = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda number: (shares[number] - exact[number], number))
    for number in by_remainder[: PERIOD - sum(shares)]:
        shares[number] += 1
    for weight, share in zip(weights, shares, strict=True):
        if weight > 0 and share == 0:
            raise ValueError(f"the weight {weight} is under a ten-thousandth of all weights together ({total})")
    return tuple(shares)


@lru_cache
def schedule(shares: tuple[int, ...]) -> tuple[Int64s, Int64s]:
    """Whose turn it is at each place of a period, and how many turns that one has had in it before.

    After any number of turns each has had its share to within one: Tijdeman, 1980, "The chairman assignment problem".

    Args:
        shares: turns of each in a period.
    """
    total, taking = sum(shares), [number for number, share in enumerate(shares) if share]
    order, before = np.empty(total, np.int64), np.empty(total, np.int64)
    had = [0] * len(shares)
    bound = 2 * len(taking) - 2
    for place in range(total):
        # What is due to each, times `total`: those to whom 1 / bound is due may take the turn, first who must soonest.
        due = {number: shares[number] * (place + 1) - had[number] * total for number in taking}
        ready = [number for number in taking if bound == 0 or due[number] * bound >= total]
        chosen = min(ready, key=lambda number: ((total - due[number] - total / max(1, bound)) / shares[number], number))
        order[place], before[place] = chosen, had[chosen]
        had[chosen] += 1
    return order, before
