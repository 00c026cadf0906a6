"""Token shards to Ray Train workers through Ray Data, in the run's exact order.

Ray Data has no resumable position and shuffles nothing reproducibly, so the order is arithmetic
(`llmcore.tokens.order`) and Ray Data carries it: one block for each (window of steps, rank), all with the same number
of rows, dealt round-robin by `streaming_split` with `preserve_order`. Each row carries its position, and the worker
checks every one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import DataContext, DataIterator, ExecutionOptions
from ray.train import DataConfig

from jobs.runtime.errors import our_errors
from llmcore.errors import RunError
from llmcore.storage import Folder
from llmcore.tokens.order import padded_share_size, share
from llmcore.tokens.schema import in_run
from llmcore.tokens.shards import TokenShards

__all__ = ["StreamPlan", "data_config", "share_tables", "token_stream"]

_ROWS_PER_BLOCK = 1024
_PADDING = -1
TASK_CPUS = 0.5
"""CPUs of one reading task; Train's workers must leave as many free, or the stream never starts."""


@dataclass(frozen=True)
class StreamPlan:
    """Which rows go to which rank: plain data, the same in driver, tasks and workers."""

    tokens: str
    seed: int
    global_batch: int
    world_size: int
    first_step: int
    num_steps: int

    @property
    def share_size(self) -> int:
        """Rows of each rank in each step, padding rows included."""
        return padded_share_size(self.global_batch, self.world_size)

    @property
    def steps_per_block(self) -> int:
        """Steps in one block; the last ones may have fewer."""
        return max(1, _ROWS_PER_BLOCK // self.share_size)

    @property
    def num_blocks(self) -> int:
        """Blocks of all ranks."""
        num_windows = -(-(self.num_steps - self.first_step) // self.steps_per_block)
        return num_windows * self.world_size

    def positions(self, block: int) -> np.ndarray[Any, Any]:
        """Positions in a block, int64 [steps × share size]; padding where a rank's share is smaller."""
        window, rank = divmod(block, self.world_size)
        first = self.first_step + window * self.steps_per_block
        last = min(first + self.steps_per_block, self.num_steps)
        return np.concatenate([self.share_positions(step, rank) for step in range(first, last)])

    def share_positions(self, step: int, rank: int) -> np.ndarray[Any, Any]:
        """Positions of one rank in one step, int64 [share size], padding last."""
        part = share(self.global_batch, self.world_size, rank)
        positions = np.full(self.share_size, _PADDING, dtype=np.int64)
        positions[: len(part)] = np.arange(part.start, part.stop) + step * self.global_batch
        return positions


@lru_cache(maxsize=2)
def _opened(tokens: str) -> TokenShards:
    """The shards, once a process: a manifest may be large, and blocks that were fetched are needed again."""
    return TokenShards.open(Folder(tokens))


class _ReadBlock:
    """Ray Data's task: a block's rows, gathered from the shards."""

    def __init__(self, plan: StreamPlan) -> None:
        self._plan = plan

    def __call__(self, blocks: dict[str, np.ndarray[Any, Any]]) -> pa.Table:
        shards = _opened(self._plan.tokens)
        positions = np.concatenate([self._plan.positions(int(block)) for block in blocks["id"]])
        real = positions != _PADDING
        rows, epochs = shards.order(self._plan.seed).rows(np.where(real, positions, 0))
        return in_run(shards.rows("train", rows), positions, epochs)


def token_stream(plan: StreamPlan) -> ray.data.Dataset:
    """The rows of a run from its first step on, for `streaming_split` over the plan's ranks."""
    DataContext.get_current().raise_original_map_exception = True  # ours, which names the shard, and not Ray's about it
    blocks = ray.data.range(plan.num_blocks, override_num_blocks=plan.num_blocks)
    return blocks.map_batches(_ReadBlock(plan).__call__, batch_size=None, num_cpus=TASK_CPUS)


def data_config() -> DataConfig:
    """How Train splits the stream: in order, one block after the other to one rank after the other."""
    options = ExecutionOptions(preserve_order=True)
    return DataConfig(execution_options=options, enable_shard_locality=False)


def share_tables(rows: DataIterator, plan: StreamPlan, rank: int) -> Iterator[pa.Table]:
    """A rank's rows, one table a step, padding rows left out.

    Raises `RunError` where the stream is not exactly the plan's: a row missed, repeated, or of another rank; and
    `ShardError`, which names shard and row, where one cannot be read.
    """
    step = plan.first_step
    with our_errors():
        for table in rows.iter_batches(batch_size=plan.share_size, batch_format="pyarrow", prefetch_batches=2):
            expected = plan.share_positions(step, rank)
            found = table["position"].to_numpy()
            if not np.array_equal(found, expected):
                gave, due = found[:4], expected[:4]
                raise RunError(f"rank {rank}, step {step + 1}: the stream gave positions {gave}… where {due}… were due")
            step += 1
            yield table.slice(0, int((expected != _PADDING).sum()))
    if step != plan.num_steps:
        raise RunError(f"rank {rank}: the stream ended after step {step} of {plan.num_steps}")
