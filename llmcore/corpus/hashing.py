"""One fast mixer of 64-bit numbers, the same on every machine."""

import numpy as np
import numpy.typing as npt

__all__ = ["GOLDEN", "UInt64s", "mix64"]

UInt64s = npt.NDArray[np.uint64]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2^64 divided by the golden ratio, odd: multiplying by it spreads small numbers."""


def mix64(value: UInt64s) -> UInt64s:
    """The finalizer of SplitMix64 (Steele, Lea and Flood, 2014), element by element: a bijection."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
