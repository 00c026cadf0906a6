"""Rows that a model is measured on and never trained on."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llmcore.errors import ConfigError
from llmcore.objectives.base import LanguageObjective
from llmcore.tokens.shards import TokenShards

__all__ = ["HeldOut"]


class HeldOut:
    """The validation split of token shards, or a sample of it, as batches of an objective.

    Args:
        name: What its metrics are called after: `<name>_loss`.
        shards: Whose validation split it is.
        objective: What the model is measured by.
        most_rows: Rows of the sample; None takes all.
    """

    def __init__(self, name: str, shards: TokenShards, objective: LanguageObjective, most_rows: int | None) -> None:
        self.name = name
        self.shards = shards
        self.objective = objective
        self._most_rows = most_rows

    @cached_property
    def _numbers(self) -> npt.NDArray[np.int64]:
        """Which rows of the split, int64, the same ones always. Raises ConfigError where there are none."""
        there = self.shards.num_rows("validation")
        if there == 0:
            raise ConfigError("the validation split has no rows: raise prepare.splits.validation")
        return self.shards.sample("validation", self._most_rows or there)

    def __len__(self) -> int:
        return len(self._numbers)

    def table(self, rows: Sequence[int]) -> pa.Table:
        """Rows by their number here, 0 … len - 1, as token shards have them."""
        return self.shards.rows("validation", self._numbers[np.asarray(rows, dtype=np.int64)])

    def batch(self, rows: range) -> Any:
        """The same as one batch of the objective; of no rows it has no targets."""
        return self.objective.micro_batches(self.table(rows), 1, max(1, len(rows)))[0]
