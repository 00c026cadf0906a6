"""Rows of token shards as micro batches."""

import numpy as np
import pyarrow as pa
import torch

from llmcore.models.packed import PackedBatch

__all__ = ["packed_micro_batches"]


def packed_micro_batches(rows: pa.Table, num_parts: int, size: int) -> list[PackedBatch]:
    """Rows of token shards as `num_parts` micro batches of at most `size` rows; an empty one is a row of padding."""
    length = rows.schema.field("tokens").type.list_size
    tokens = rows["tokens"].combine_chunks()
    flat = tokens.values.to_numpy(zero_copy_only=False)
    start = tokens.offset * length
    matrix = torch.from_numpy(flat[start : start + len(tokens) * length].astype(np.int64)).view(-1, length)
    lengths = rows["document_lengths"].to_pylist()
    batches = []
    for index in range(num_parts):
        part = slice(index * size, (index + 1) * size)
        some = matrix[part] if len(matrix[part]) else torch.zeros(1, length, dtype=torch.long)
        batches.append(PackedBatch.of_rows(some, lengths[part] or [[]]))
    return batches
