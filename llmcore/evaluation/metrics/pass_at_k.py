"""pass@k: the chance that of k programs written for a problem at least one passes its tests."""

from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np

from llmcore.errors import CorpusError
from llmcore.evaluation.metrics.base import Additive, Floats, row_mean
from llmcore.evaluation.programs import NUM_CORRECT, NUM_SAMPLES

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["pass_at_k"]

_COLUMNS = (NUM_SAMPLES, NUM_CORRECT)


def pass_at_k(k: int) -> Additive:
    """The unbiased estimator of Chen et al. (2021), 1 - C(n - c, k) / C(n, k), of c right among n samples of a row,
    and its mean over rows.
    """

    def scores(rows: "pa.Table") -> Floats:
        return np.array([_estimate(row, k) for row in rows.select(["id", *_COLUMNS]).to_pylist()], dtype=np.float64)

    return row_mean(f"pass_at_{k}", _COLUMNS, scores)


def _estimate(row: dict[str, Any], k: int) -> float:
    num, right = row[NUM_SAMPLES], row[NUM_CORRECT]
    if num < k or not 0 <= right <= num:
        raise CorpusError(
            f"row {row['id']!r} has {right} right of {num} samples: pass_at_{k} needs {k} or more samples a row"
        )
    return 1 - comb(num - right, k) / comb(num, k)
