"""Which rows a model is given together."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

__all__ = ["batches", "padded"]


def batches(lengths: Sequence[int], budget: int, *, extra: int = 0, width: int = 1) -> Iterator[list[int]]:
    """Indices in batches, short ones first, so that little is padded: at most `budget` tokens each, or one index.

    A batch costs as many tokens as its rows have when they are as long as the longest and `extra` more, `width` times.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if batch and (len(batch) + 1) * (lengths[index] + extra) * width > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def padded(rows: Sequence[Sequence[int]], pad_id: int, *, left: bool) -> tuple[Tensor, Tensor]:
    """Rows of one length: int64 [rows, length]; and whether a token is one of theirs, the same shape, as 0 and 1."""
    length = max(map(len, rows))
    fills = [length - len(row) for row in rows]
    pads = [[pad_id] * fill for fill in fills]
    filled = [[*fill, *row] if left else [*row, *fill] for row, fill in zip(rows, pads, strict=True)]
    places = torch.arange(length)
    sizes = torch.tensor(fills)[:, None]
    return torch.tensor(filled), (places >= sizes if left else places < length - sizes).long()
