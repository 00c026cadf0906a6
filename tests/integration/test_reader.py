"""Token shards through Ray Data's `streaming_split`: each rank gets exactly its rows, in order, from any step on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray.data import DataIterator

from cluster.connect import Session
from jobs.runtime import reader
from jobs.runtime.reader import StreamPlan, data_config, share_tables, token_stream
from llmcore.storage import Folder
from llmcore.tokens.order import RowOrder, share
from tests.tiny import write_tokens

NUM_ROWS = 50
GLOBAL_BATCH = 7  # neither 2 nor 3 divides it
FIRST_STEP = 5  # positions 35 …: the first source epoch ends on the way
NUM_STEPS = 26
SEED = 3


@ray.remote(num_cpus=0)
def consume(rows: DataIterator, plan: StreamPlan, rank: int) -> list[dict[str, Any]]:
    return [
        {"position": table["position"].to_pylist(), "tokens": table["tokens"].to_pylist()}
        for table in share_tables(rows, plan, rank)
    ]


@pytest.mark.parametrize("world_size", [2, 3])
def test_each_rank_gets_its_rows_in_order_from_the_middle_on(
    ray_session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world_size: int
) -> None:
    monkeypatch.setattr(reader, "_ROWS_PER_BLOCK", 24)  # several windows of steps
    tokens = write_tokens(Folder(str(tmp_path)), NUM_ROWS)
    plan = StreamPlan(tokens.url, SEED, GLOBAL_BATCH, world_size, FIRST_STEP, NUM_STEPS)
    stream = token_stream(plan)
    stream.context.execution_options = data_config().execution_options_for_rank...
