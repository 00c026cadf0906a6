"""Token shards to Ray Train workers through Ray Data, in the run's exact order.

Ray Data has no resumable position and shuffles nothing reproducibly, so the order is arithmetic
(`llmcore.tokens.order`) and Ray Data carries it: one block for each (window of steps, rank), all with the same number
of rows, dealt round-robin by `streaming_split` with `preserve_order`. Each row carries its position, and the worker
checks every one.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import DataContext, DataIterator, Datasource, ExecutionOptions, ReadTask
from ray.data.block import BlockMetadata
from ray.train import DataConfig

from cluster.placement import placed
from jobs.runtime.errors import fetch, our_errors
from jobs.runtime.retries import tell_of_retries
from llmcore.errors import RunError
from llmcore.storage import Folder
from llmcore.tokens.order import padded_share_size, share
from llmcore.tokens.schema import in_run
from llmcore.tokens.shards import TokenShards

__all__ = ["OrderedSplit", "StreamPlan", "batches_of", "share_tables", "token_stream"]

_ROWS_PER_BLOCK = 1024
_MAX_BLOCKS = 50_000
"""Ray Data notes each before the first is read: those of a run of a month would take minutes and gigabytes."""
_PADDING = -1
TASK_CPUS = 0.5
"""CPUs of one reading task; Train's workers must leave as many free, or the stream never starts."""

tell_of_retries()  # each process that reads imports this module


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
        num_steps = self.num_steps - self.first_step
        return max(1, _ROWS_PER_BLOCK // self.share_size, -(-num_steps * self.world_size // _MAX_BLOCKS))

    @property
    def num_blocks(self) -> int:
        """Blocks of all ranks."""
        num_windows = -(-(self.num_steps - self.first_step) // self.steps_per_block)
        return num_windows * self.world_size

    def positions(self, block: int) -> np.ndarray[Any, Any]:
        """Positions in a block, int64 [steps × share size]; padding where a rank's share is smaller."""
        rank = block % self.world_size
        return np.concatenate([self.share_positions(step, rank) for step in self.steps(block)])

    def steps(self, block: int) -> range:
        """The steps that a block has rows of."""
        first = self.first_step + block // self.world_size * self.steps_per_block
        return range(first, min(first + self.steps_per_block, self.num_steps))

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


class _Blocks(Datasource):  # type: ignore[misc]  # Ray has no types here
    """Ray Data's source: a task for each block, in their order."""

    def __init__(self, plan: StreamPlan, server: Any) -> None:
        super().__init__()
        self._plan = plan
        self._server = server

    def get_name(self) -> str:
        """What the stream is called in Ray's accounts of it."""
        return "TokenRows"

    def estimate_inmemory_data_size(self) -> int | None:
        """Unknown before the shards are opened; nothing depends on it."""
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        """One for each block, whatever Ray would prefer: ranks are dealt whole ones."""
        nothing = {"size_bytes": None, "input_files": None, "exec_stats": None}
        return [
            ReadTask(
                partial(_read_block, self._plan, self._server, block),
                BlockMetadata(num_rows=len(self._plan.steps(block)) * self._plan.share_size, **nothing),
            )
            for block in range(self._plan.num_blocks)
        ]


def _read_block(plan: StreamPlan, server: Any, block: int) -> list[pa.Table]:
    """A block's rows, gathered from the shards, or got from the actor that makes them."""
    positions = plan.positions(block)
    real = positions != _PADDING
    rows = _rows(plan, server, positions[real])
    if not real.all():
        rows = rows.take(pa.array(np.maximum(np.cumsum(real) - 1, 0)))
        where = rows.schema.get_field_index("position")
        rows = rows.set_column(where, rows.schema.field(where), pa.array(positions))
    return [rows]


def _rows(plan: StreamPlan, server: Any, positions: np.ndarray[Any, Any]) -> pa.Table:
    if server is not None:
        made: pa.Table = fetch(server.rows.remote(positions))
        return made
    shards = _opened(plan.tokens)
    rows, epochs = shards.order(plan.seed).rows(positions)
    return in_run(shards.rows("train", rows), positions, epochs)


def token_stream(plan: StreamPlan, server: Any = None, *, task_cpus: float = TASK_CPUS) -> ray.data.Dataset:
    """The rows of a run from its first step on, for `streaming_split` over the plan's ranks.

    They are read from the token shards; or come from `server`, an actor whose method `rows` gives those of positions.
    """
    context = DataContext.get_current()
    context.raise_original_map_exception = True  # ours, which names the shard, and not Ray's about it
    context.target_max_block_size = None  # a block is dealt whole
    return ray.data.read_datasource(
        _Blocks(plan, server),
        num_cpus=task_cpus,
        concurrency=None if task_cpus else plan.world_size,  # or nothing would bound them
        override_num_blocks=max(1, plan.num_blocks),
    )


class OrderedSplit(DataConfig):  # type: ignore[misc]
    """How Train splits the stream: in order, one block after the other to one rank after the other.

    The stream is made here, and not handed to Train as a dataset: here alone Train says how many workers it has
    started, which may be others after a restart.
    """

    def __init__(self, stream: Callable[[int], ray.data.Dataset]) -> None:
        """`stream` is called with the world size, anew for each start of the workers."""
        options = ExecutionOptions(preserve_order=True, **placed("data"))
        super().__init__(execution_options=options, enable_shard_locality=False)
        self._stream = stream

    def configure(
        self, datasets: dict[str, Any], world_size: int, *args: Any, **kwargs: Any
    ) -> list[dict[str, DataIterator]]:
        """The rows of each rank."""
        streams = {name: self._stream(world_size) for name in datasets}
        shares: list[dict[str, DataIterator]] = super().configure(streams, world_size, *args, **kwargs)
        return shares


def batches_of(rows: DataIterator, share_size: int) -> Iterator[pa.Table]:
    """A rank's rows as they come, `share_size` of each step. The first may take seconds: ask for it early.

    Raises `ShardError`, which names shard and row, where one cannot be read.
    """
    with our_errors():
        yield from rows.iter_batches(batch_size=share_size, batch_format="pyarrow", prefetch_batches=2)


def share_tables(batches: Iterable[pa.Table], plan: StreamPlan, rank: int) -> Iterator[pa.Table]:
    """A rank's rows, one table a step, padding rows left out.

    Raises `RunError` where the stream is not exactly the plan's: a row missed, repeated, or of another rank.
    """
    step = plan.first_step
    for table in batches:
        expected = plan.share_positions(step, rank)
        found = table["position"].to_numpy()
        if not np.array_equal(found, expected):
            gave, due = found[:4], expected[:4]
            raise RunError(f"rank {rank}, step {step + 1}: the stream gave positions {gave}… where {due}… were due")
        step += 1
        yield table.slice(0, int((expected != _PADDING).sum()))
    if step != plan.num_steps:
        raise RunError(f"rank {rank}: the stream ended after step {step} of {plan.num_steps}")
