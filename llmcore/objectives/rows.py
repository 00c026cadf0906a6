"""Rows of token shards as micro batches."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from llmcore.models.packed import PackedBatch

__all__ = ["packed_micro_batches", "token_matrix"]


def token_matrix(rows: pa.Table) -> npt.NDArray[np.int64]:
    """The tokens of rows of token shards: int64 [rows, length]."""
    length = rows.schema.field("tokens").type.list_size
    tokens = rows["tokens"].combine_chunks()
    flat: npt.NDArray[np.int64] = tokens.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    return flat.reshape(-1, length)


def packed_micro_batches(rows: pa.Table, num_parts: int, size: int) -> list[PackedBatch]:
    """Rows of token shards as `num_parts` micro batches of at most `size` rows; an empty one is a row of padding."""
    matrix = torch.from_numpy(token_matrix(rows))
    lengths = rows["document_lengths"].to_pylist()
    batches = []
    for index in range(num_parts):
        part = slice(index * size, (index + 1) * size)
        some = matrix[part] if len(matrix[part]) else torch.zeros(1, matrix.shape[1], dtype=torch.long)
        batches.append(PackedBatch.of_rows(some, lengths[part] or [[]]))
    return batches
