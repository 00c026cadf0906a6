"""Packed rows as the tensors that a plain loop gives to a plain model."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

__all__ = ["block_mask", "document_positions", "next_tokens", "row_tensors"]


def row_tensors(rows: pa.Table) -> tuple[Tensor, Tensor]:
    """Tokens, and the number of each token's document in its row, −1 for padding: int64 [rows, length]."""
    length = rows.schema.field("tokens").type.list_size
    flat = rows["tokens"].combine_chunks().flatten().to_numpy()
    tokens = torch.from_numpy(flat.astype(np.int64)).view(-1, length)
    numbers = [_document_numbers(lengths, length) for lengths in rows["document_lengths"].to_pylist()]
    return tokens, torch.from_numpy(np.stack(numbers))


def _document_numbers(lengths: Sequence[int], length: int) -> npt.NDArray[np.int64]:
    numbers = np.full(length, -1, dtype=np.int64)
    numbers[: sum(lengths)] = np.repeat(np.arange(len(lengths)), lengths)
    return numbers


def block_mask(documents: Tensor) -> Tensor:
    """Which token sees which: bool [rows, 1, length, length]."""
    same = documents[:, :, None] == documents[:, None, :]
    return same.tril()[:, None]


def document_positions(documents: Tensor) -> Tensor:
    """Position of each token in its document: int64 [rows, length]."""
    where = torch.arange(documents.shape[1]).expand_as(documents)
    starts = torch.ones_like(documents, dtype=torch.bool)
    starts[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return where - torch.where(starts, where, 0).cummax(1).values


def next_tokens(tokens: Tensor, documents: Tensor, *, across: bool) -> Tensor:
    """The next token of each, −100 where there is none in the same document, or, `across`, in the same row."""
    labels = torch.full_like(tokens, -100)
    following = documents[:, 1:] >= 0
    if not across:
        following = following & (documents[:, 1:] == documents[:, :-1])
    labels[:, :-1][following] = tokens[:, 1:][following]
    return labels
