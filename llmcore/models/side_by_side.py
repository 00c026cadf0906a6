"""Documents of packed tokens laid side by side, those of about one size in one block, and their tokens back in place.

Attention is then one call for each size, not for each document: a batch of sentences has a hundred, in two or three
sizes. What a document's block looks like depends on its own length alone, so no other document moves its numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["Block", "Lay", "SideBySide", "block_size", "side_by_side"]

_STEP = 32
"""Sizes of short documents are multiples of it: what is added costs attention alone, which costs little there."""
_SHORT = 256
"""A longer document is as it is: few of them make a batch, and their attention counts."""


@dataclass(frozen=True, eq=False)
class Block:
    """Documents of one size.

    Attributes:
        count: How many.
        size: Tokens of each, padding included.
        key_size: The same of what they attend to.
        known: Bool [count, 1, 1, key_size], where keys are no padding; None: they all are none.
        beyond: Bool [count, 1, size, 1], where queries are padding.
    """

    count: int
    size: int
    key_size: int
    known: Tensor | None
    beyond: Tensor


@dataclass(frozen=True, eq=False)
class Lay:
    """Where tokens lie.

    Attributes:
        source: int64 [places], of each place in the blocks its token; padding has the last token of its document.
        place: int64 [tokens], the way back.
        padding: Bool [places, 1, 1]; None where there is none.
        is_identity: Whether nothing moves.
    """

    source: Tensor
    place: Tensor
    padding: Tensor | None
    is_identity: bool

    def spread(self, tokens: Tensor) -> Tensor:
        """Of [tokens, heads, dim]: [places, heads, dim]."""
        return self._moved(tokens, self.source, self.place, None)

    def collect(self, places: Tensor) -> Tensor:
        """Of [places, heads, dim]: [tokens, heads, dim]."""
        return self._moved(places, self.place, self.source, self.padding)

    def _moved(self, rows: Tensor, there: Tensor, back: Tensor, padding: Tensor | None) -> Tensor:
        if self.is_identity:
            return rows
        moved: Tensor = _Moved.apply(rows, there, back, padding)  # type: ignore[no-untyped-call]
        return moved


@dataclass(frozen=True, eq=False)
class SideBySide:
    """Blocks, one after the other, and how the tokens of queries and of keys get there."""

    blocks: tuple[Block, ...]
    queries: Lay
    keys: Lay


@lru_cache(maxsize=16)
def side_by_side(lengths: tuple[int, ...], key_lengths: tuple[int, ...], device: torch.device) -> SideBySide:
    """The blocks of documents with these lengths, and these lengths of their keys; all layers of a batch ask for them.

    Args:
        lengths: Tokens of each document.
        key_lengths: Tokens of what each attends to.
        device: Where the tensors are to be.
    """
    of_size: dict[tuple[int, bool, int, bool], list[int]] = {}
    for document, (length, key_length) in enumerate(zip(lengths, key_lengths, strict=True)):
        size, key_size = block_size(length), block_size(key_length)
        of_size.setdefault((size, size == length, key_size, key_size == key_length), []).append(document)
    blocks = [
        _block([(lengths[n], key_lengths[n]) for n in documents], size, key_size, device)
        for (size, _, key_size, _), documents in of_size.items()
    ]
    order = [document for documents in of_size.values() for document in documents]
    sizes = [(size, key_size) for (size, _, key_size, _), documents in of_size.items() for _ in documents]
    return SideBySide(
        tuple(blocks),
        _lay(lengths, order, [size for size, _ in sizes], device),
        _lay(key_lengths, order, [key_size for _, key_size in sizes], device),
    )


def block_size(length: int) -> int:
    """Of the block that a document of so many tokens is in."""
    return length if length > _SHORT else -(-length // _STEP) * _STEP


def _block(lengths: Sequence[tuple[int, int]], size: int, key_size: int, device: torch.device) -> Block:
    own, of_keys = (torch.tensor(column, device=device)[:, None, None, None] for column in zip(*lengths, strict=True))
    known = torch.arange(key_size, device=device) < of_keys
    beyond = torch.arange(size, device=device)[:, None] >= own
    is_full = all(key_length == key_size for _, key_length in lengths)
    return Block(len(lengths), size, key_size, None if is_full else known, beyond)


def _lay(lengths: Sequence[int], order: Sequence[int], sizes: Sequence[int], device: torch.device) -> Lay:
    """The lay of documents in this order, each of its size."""
    own = torch.tensor(lengths)
    starts, own, size = (own.cumsum(0) - own)[list(order)], own[list(order)], torch.tensor(sizes)
    within = torch.arange(int(size.sum())) - (size.cumsum(0) - size).repeat_interleave(size)
    padding = within >= own.repeat_interleave(size)
    source = starts.repeat_interleave(size) + torch.minimum(within, (own - 1).repeat_interleave(size))
    place = torch.empty(int(own.sum()), dtype=torch.int64)
    place[source[~padding]] = torch.arange(len(source))[~padding]
    return Lay(
        source.to(device),
        place.to(device),
        padding.to(device)[:, None, None] if bool(padding.any()) else None,
        is_identity=torch.equal(source, torch.arange(len(place))),
    )


class _Moved(torch.autograd.Function):
    """Rows in other places; the gradient goes the way back, and is zero where `padding` says so.

    Padding is nobody's key, and what it asks for is thrown away, so on the way there its gradient is zero already.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, there: Tensor, back: Tensor, padding: Tensor | None) -> Tensor:
        ctx.back, ctx.padding = back, padding
        return rows.index_select(0, there)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        moved = gradient.index_select(0, ctx.back)
        return moved if ctx.padding is None else moved.masked_fill_(ctx.padding, 0.0), None, None, None
