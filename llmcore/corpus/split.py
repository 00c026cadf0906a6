"""Which split a document belongs to: a pure function of its key, the sizes of all keys, and a seed.

Documents of one key (a module, a site, an author) stay together, so nothing of a held-out key is trained on. Keys are
of very different sizes; the greedy below fills each held-out split, stratum by stratum, with many small and medium keys
rather than one giant, since intervals over a test set resample its keys.
"""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["HELD_OUT", "SPLITS", "KeySize", "Shares", "split_of_id", "split_of_keys"]

SPLITS = ("train", "validation", "test")
HELD_OUT = ("test", "validation")
"""In the order in which they take keys; and the most held-out first."""

POOL = 1.25
"""The keys a stratum's held-out splits are drawn from: its smallest, so many times as many documents as they want."""


class KeySize(NamedTuple):
    """A split key: the stratum it is balanced within, and its number of documents."""

    stratum: str
    num_documents: int


class Shares(NamedTuple):
    """Shares of the documents in the held-out splits, each 0 or more and under 1 together; the rest is train."""

    validation: float
    test: float


def _rank(seed: int, name: str) -> int:
    """A uniform 64-bit number for a name, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest(), "big")


def split_of_id(document_id: str, shares: Shares, seed: int) -> str:
    """The split of a document without a key, by the hash of its id."""
    where = _rank(seed, document_id) / 2**64
    if where < shares.test:
        return "test"
    return "validation" if where < shares.test + shares.validation else "train"


def split_of_keys(keys: Mapping[str, KeySize], shares: Shares, seed: int) -> dict[str, str]:
    """The split of every key.

    Within each stratum, the held-out splits come within one key of their share of the documents where the sizes of the
    keys allow; and each of the splits with a share has at least one key where the stratum has three keys.

    Args:
        keys: by name, the stratum and the number of documents of each key, of all sources together.
        shares: of the documents in the held-out splits.
        seed: another seed gives another assignment.
    """
    assigned: dict[str, str] = {}
    for stratum in sorted({size.stratum for size in keys.values()}):
        sizes = {key: size.num_documents for key, size in keys.items() if size.stratum == stratum}
        assigned |= _split_stratum(sizes, shares, seed)
    return assigned


def _split_stratum(sizes: dict[str, int], shares: Shares, seed: int) -> dict[str, str]:
    """Deal the smaller keys, in seeded order, each to the held-out split that still wants most and has room for it."""
    total = sum(sizes.values())
    wanted = {split: getattr(shares, split) * total for split in HELD_OUT}
    held_out: dict[str, str] = {}

    def take(key: str, split: str) -> None:
        held_out[key] = split
        wanted[split] -= sizes[key]

    for key in _pool(sizes, sum(wanted.values()), seed):
        split = max(HELD_OUT, key=lambda split: wanted[split])
        if sizes[key] <= wanted[split]:
            take(key, split)
    for split in HELD_OUT:
        free = sorted((size, _rank(seed, key), key) for key, size in sizes.items() if key not in held_out)
        if wanted[split] > 0 and split not in held_out.values() and len(sizes) >= len(SPLITS) and len(free) > 1:
            take(free[0][-1], split)
    return {key: held_out.get(key, "train") for key in sizes}


def _pool(sizes: dict[str, int], wanted: float, seed: int) -> list[str]:
    """The smallest keys that together have `POOL` times the wanted documents, in seeded order."""
    pool: list[str] = []
    num_documents = 0
    for key in sorted(sizes, key=lambda key: (sizes[key], _rank(seed, key), key)):
        if num_documents >= POOL * wanted:
            break
        pool.append(key)
        num_documents += sizes[key]
    return sorted(pool, key=lambda key: (_rank(seed, key), key))
