"""Which row comes next: a pure function of (number of rows, seed, position).

A run's position n is row p(n mod N) of source epoch n // N, where p is a pseudo-random permutation of 0 …
N-1 keyed by (seed, epoch). It is computed, not stored: a balanced Feistel network (Luby and Rackoff, 1988,
"How to construct pseudorandom permutations from pseudorandom functions") permutes the next even number of
bits, and cycle walking (Black and Rogaway, 2002, "Ciphers with arbitrary finite domains") brings it down to
N: a value outside is permuted again until it falls inside, four times at most on average. Memory is O(1) in
the number of rows, so the state of a reader is one integer.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llmcore.corpus.hashing import GOLDEN, UInt64s, mix64

__all__ = ["RowOrder", "padded_share_size", "share"]

Int64s = npt.NDArray[np.int64]

NUM_ROUNDS = 8  # four are enough with ideal round functions; ours are fast mixers on few bits


@dataclass(frozen=True)
class RowOrder:
    """The order in which `num_rows` rows are read, epoch after epoch, under one seed."""

    num_rows: int
    seed: int

    def __post_init__(self) -> None:
        if self.num_rows < 1:
            raise ValueError(f"num_rows={self.num_rows}: there is no order of no rows")

    def rows(self, positions: Int64s) -> tuple[Int64s, Int64s]:
        """Rows and source epochs of positions.

        Args:
            positions: int64 of any shape, each 0 or more: what a run has consumed before this row.

        Returns:
            (row, epoch), int64 of the same shape: the row, 0 … num_rows-1, and its pass over the rows.
        """
        positions = np.asarray(positions, dtype=np.int64)
        if positions.size and positions.min() < 0:
            raise ValueError(f"position {positions.min()} is negative: padding has no row")
        epochs, offsets = np.divmod(positions, self.num_rows)
        keys = self._keys(epochs)
        rows = self._permute(offsets.astype(np.uint64), keys)
        outside = rows >= self.num_rows
        while outside.any():
            rows[outside] = self._permute(rows[outside], keys[outside])
            outside = rows >= self.num_rows
        return rows.astype(np.int64), epochs

    def places(self, rows: Int64s, epochs: Int64s) -> Int64s:
        """Where rows come in their epochs, int64: the inverse of `rows`, without the epochs before."""
        keys = self._keys(np.asarray(epochs, dtype=np.int64))
        places = self._unpermute(np.asarray(rows).astype(np.uint64), keys)
        outside = places >= self.num_rows
        while outside.any():
            places[outside] = self._unpermute(places[outside], keys[outside])
            outside = places >= self.num_rows
        return places.astype(np.int64)

    def _keys(self, epochs: Int64s) -> UInt64s:
        """One key for each (seed, epoch)."""
        seed = int.from_bytes(hashlib.blake2b(str(self.seed).encode(), digest_size=8).digest(), "little")
        return mix64(epochs.astype(np.uint64) * GOLDEN + np.uint64(seed))

    @property
    def _half_bits(self) -> np.uint64:
        """Half the bits of the smallest domain that holds every row and can be halved."""
        return np.uint64(max(1, ((self.num_rows - 1).bit_length() + 1) // 2))

    def _permute(self, values: UInt64s, keys: UInt64s) -> UInt64s:
        """A bijection of 0 … 4^half_bits - 1."""
        half_bits = self._half_bits
        mask = np.uint64((1 << int(half_bits)) - 1)
        left, right = values >> half_bits, values & mask
        for number in range(NUM_ROUNDS):
            left, right = right, left ^ (self._round(right, keys, number) & mask)
        return (left << half_bits) | right

    def _unpermute(self, values: UInt64s, keys: UInt64s) -> UInt64s:
        """Its inverse."""
        half_bits = self._half_bits
        mask = np.uint64((1 << int(half_bits)) - 1)
        left, right = values >> half_bits, values & mask
        for number in reversed(range(NUM_ROUNDS)):
            left, right = right ^ (self._round(left, keys, number) & mask), left
        return (left << half_bits) | right

    @staticmethod
    def _round(half: UInt64s, keys: UInt64s, number: int) -> UInt64s:
        return mix64(half * GOLDEN ^ mix64(keys + np.uint64(number + 1)))


def share(global_batch: int, world_size: int, rank: int) -> range:
    """The part of a global batch a rank works on: contiguous, the first ranks one row longer where need be.

    The shares of ranks 0 … world_size-1, one after the other, are the global batch, at any world size.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank={rank} is not one of 0 … {world_size - 1}")
    size, longer = divmod(global_batch, world_size)
    start = rank * size + min(rank, longer)
    return range(start, start + size + (rank < longer))


def padded_share_size(global_batch: int, world_size: int) -> int:
    """Rows every rank is given when the shares are made equal by padding: that of the longest."""
    return -(-global_batch // world_size)
