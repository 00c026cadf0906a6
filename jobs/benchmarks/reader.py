"""`reader`: token shards through Ray Data into two consumers, from a disk and from an S3 server.

Rows of 1,024 tokens, read in a run's order as Ray Train's workers do it, from the start of the stream to the last row.
The peer reads the same rows in the same order in one process, without Ray: the floor of ours. Raw shards are read, too;
and each consumer trains a GPT of 10 M parameters, and takes steps on rows of the stream and on rows in memory by turns.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobs.benchmarks.reader_raw import raw_rows
from jobs.benchmarks.rows import Measured, Row
from jobs.benchmarks.s3_server import rclone, s3_environment, s3_server
from jobs.runtime.console import say
from jobs.runtime.options import RunOptions
from llmcore.config.common import ClusterSettings
from llmcore.storage import Folder, publish

__all__ = ["measure"]

SEQUENCE_LENGTH = 1024
VOCAB_SIZE = 50_000
NUM_ROWS = 500_000
NUM_REMOTE_ROWS = 100_000
GLOBAL_BATCH = 512
WORLD_SIZE = 2
NUM_CPUS = 2
PEER = "one process, no Ray"


def measure(options: RunOptions) -> Measured:
    """Tokens a second after the first batch, seconds to it, and the memory of a consumer."""
    from cluster.connect import connect

    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "bucket").mkdir()
        tokens = _write(Folder(str(root / "bucket" / "tokens")), NUM_ROWS)
        few = _write(Folder(str(root / "bucket" / "few")), NUM_REMOTE_ROWS)
        with _s3(root) as served, connect(ClusterSettings(num_cpus=NUM_CPUS), verbose=options.verbose):
            floor = _plain(tokens, NUM_ROWS)
            rows += _rows("from a disk", _stream(tokens, NUM_ROWS), floor)
            if served:
                rows += _rows(
                    "from S3", _stream(Folder("s3://bucket/few"), NUM_REMOTE_ROWS), _plain(few, NUM_REMOTE_ROWS)
                )
            else:
                say("reader: no S3 server: rclone is not installed beside Python")
            rows += raw_rows(root, _read_through, WORLD_SIZE)
            rows.append(_step_row(tokens))  # last: its stream is left before its end, and its processes have torch
    settings = {"sequence_length": SEQUENCE_LENGTH, "rows": NUM_ROWS, "rows_from_s3": NUM_REMOTE_ROWS}
    return Measured(rows, settings | {"global_batch": GLOBAL_BATCH, "consumers": WORLD_SIZE, "num_cpus": NUM_CPUS})


def _write(folder: Folder, num_rows: int) -> Folder:
    """Shards of random tokens, one document a row."""
    import numpy as np

    from llmcore.tokens.schema import PackedRows
    from llmcore.tokens.shards import KIND, ShardLayout, shard_name, write_shard
    from llmcore.tokens.tokenizer import OWN_IDS

    layout = ShardLayout.of(SEQUENCE_LENGTH, VOCAB_SIZE, 64_000_000)
    rng = np.random.default_rng(0)
    shards = []
    about = {"sequence_length": SEQUENCE_LENGTH, "vocab_size": VOCAB_SIZE, "special_ids": OWN_IDS._asdict()}
    with publish(folder, KIND, about) as publication:
        for number, first in enumerate(range(0, num_rows, layout.rows_per_shard)):
            size = min(layout.rows_per_shard, num_rows - first)
            ids = rng.integers(0, VOCAB_SIZE, (size, SEQUENCE_LENGTH), dtype=np.int32)
            rows = PackedRows(ids, [[SEQUENCE_LENGTH]] * size, [[0]] * size).to_table(VOCAB_SIZE, first)
            name = shard_name("train", number)
            publication.add(write_shard(folder, name, rows, layout.rows_per_block))
            shards.append({"name": name, "num_rows": size})
        source = {"name": "random", "first_row": 0, "num_rows": num_rows, "weight": None, "max_epochs": None}
        splits = {"train": {"num_rows": num_rows, "shards": shards}}
        publication.about |= {"rows_per_block": layout.rows_per_block, "mixture": [source], "splits": splits}
    return folder


def _plan(tokens: Folder, num_rows: int) -> Any:
    from jobs.runtime.reader import StreamPlan

    return StreamPlan(tokens.url, 0, GLOBAL_BATCH, WORLD_SIZE, 0, num_rows // GLOBAL_BATCH)


def _plain(tokens: Folder, num_rows: int) -> float:
    """Tokens a second of reading a step's rows, one after the other."""
    import numpy as np

    from llmcore.tokens.shards import TokenShards

    shards = TokenShards.open(tokens)
    order = shards.order(0)
    started = time.perf_counter()
    for step in range(num_rows // GLOBAL_BATCH):
        shards.rows("train", order.rows(np.arange(step * GLOBAL_BATCH, (step + 1) * GLOBAL_BATCH))[0])
    return num_rows * SEQUENCE_LENGTH / (time.perf_counter() - started)


def _consumed(plan: Any, consume: Any, server: Any = None) -> list[Any]:
    """What `consume(rows, rank)` returns for each rank, all at the same time."""
    import ray

    from jobs.runtime.reader import OrderedSplit, token_stream

    start = ray.remote(num_cpus=0)(consume)
    shards = OrderedSplit(lambda _: token_stream(plan, server)).configure({"train": None}, plan.world_size, None, None)
    found: list[Any] = ray.get([start.remote(shard["train"], rank) for rank, shard in enumerate(shards)])
    return found


def _step_row(tokens: Folder) -> Row:
    """Seconds of a step on tensors in memory, as a share of those of one on rows of the stream."""
    from jobs.benchmarks.reader_step import SHARE, step_seconds
    from jobs.runtime.reader import StreamPlan

    plan = StreamPlan(tokens.url, 0, SHARE * WORLD_SIZE, WORLD_SIZE, 0, NUM_ROWS // SHARE // WORLD_SIZE)
    found = _consumed(plan, lambda rows, rank: step_seconds(rows, plan, rank))
    streamed, in_memory = (max(one[name] for one in found) for name in ("streamed", "in memory"))
    return Row("a step of a 10 M GPT while reading", 1 / streamed, "steps/s", "tensors in memory", 1 / in_memory)


def _stream(tokens: Folder, num_rows: int) -> dict[str, float]:
    found = _read_through(_plan(tokens, num_rows))
    return {
        "speed": sum(one["rows"] for one in found) * SEQUENCE_LENGTH / max(one["seconds"] for one in found),
        "first": max(one["first"] for one in found),
        "peak": max(one["peak"] for one in found),
    }


def _read_through(plan: Any, server: Any = None) -> list[dict[str, float]]:
    """Of each consumer of a stream: rows after the first batch, seconds to it and after it, and private memory."""
    from jobs.runtime.reader import batches_of, share_tables

    began = time.time()

    def consume(rows: Any, rank: int) -> dict[str, float]:
        import psutil

        number, first, early, peak = 0, 0.0, 0, 0
        for table in share_tables(batches_of(rows, plan.share_size), plan, rank):
            number += table.num_rows
            first = first or time.time()
            early = early or number
            peak = max(peak, psutil.Process().memory_full_info().uss)
        return {"rows": number - early, "first": first - began, "seconds": time.time() - first, "peak": peak}

    return _consumed(plan, consume, server)


def _rows(what: str, found: dict[str, float], floor: float) -> list[Row]:
    return [
        Row(f"{what}, after the first batch", found["speed"] / 1e6, "M tokens/s", PEER, floor / 1e6),
        Row(f"{what}, the first batch after", found["first"], "s"),
        Row(f"{what}, a consumer's private memory", found["peak"] / 1e6, "MB"),
    ]


@contextmanager
def _s3(root: Path) -> Iterator[bool]:
    """An S3 server on the folder, which the environment leads to; False where there is none to start."""
    program = rclone()
    if program is None:
        yield False
        return
    with s3_server(program, root) as address:
        os.environ |= s3_environment(address)
        yield True
