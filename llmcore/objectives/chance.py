"""Random numbers that are a function of seed, position and place: the same whoever asks, and in whatever order."""

import numpy as np
import numpy.typing as npt

from llmcore.corpus.hashing import GOLDEN, UInt64s, mix64

__all__ = ["numbers", "row_keys", "uniform"]


def row_keys(seed: int, positions: npt.NDArray[np.int64]) -> UInt64s:
    """A key for each row: uint64 [rows].

    A row of another epoch has another position in the run, so other numbers; and who reads it is no part of it.
    """
    return mix64(positions.astype(np.uint64) * GOLDEN ^ mix64(np.array([seed + 1], np.uint64)))


def numbers(keys: UInt64s, count: int) -> UInt64s:
    """So many numbers of 64 bits for each key: [..., count]. They may be keys themselves."""
    return mix64(keys[..., None] + (np.arange(count, dtype=np.uint64) + np.uint64(1)) * GOLDEN)


def uniform(drawn: UInt64s) -> npt.NDArray[np.float64]:
    """Numbers of 64 bits as numbers from 0 to 1."""
    return (drawn >> np.uint64(11)).astype(np.float64) / 2**53
