"""How likely the right text is under the model, by the token and by the byte."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from llmcore.evaluation.metrics.base import Additive, Floats, ratio

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BITS_PER_BYTE", "PERPLEXITY"]


def _columns(*names: str) -> Callable[["pa.Table"], Floats]:
    def statistics(rows: "pa.Table") -> Floats:
        return np.stack([rows[name].to_numpy().astype(np.float64) for name in names], axis=1)

    return statistics


PERPLEXITY = Additive(
    "perplexity",
    ("loss_sum", "num_tokens"),
    _columns("loss_sum", "num_tokens"),
    lambda sums: np.exp(ratio(sums[..., 0], sums[..., 1])),
    higher_is_better=False,
    signature="exp of nats a token of the reference; depends on the tokenizer",
)
"""The exponential of the mean loss of the reference's tokens: `loss_sum` in nats, over `num_tokens`."""

BITS_PER_BYTE = Additive(
    "bits_per_byte",
    ("loss_sum", "num_bytes"),
    _columns("loss_sum", "num_bytes"),
    lambda sums: ratio(sums[..., 0], sums[..., 1] * math.log(2)),
    higher_is_better=False,
    signature="bits a UTF-8 byte of the reference",
)
"""The same loss in bits, over the UTF-8 bytes of the reference: it compares models of different tokenizers."""
