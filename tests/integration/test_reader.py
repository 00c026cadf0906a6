"""Token shards through Ray Data's `streaming_split`: each rank gets exactly its rows, in order, from any step on."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray
from ray.data import DataIterator

from cluster.connect import Session
from jobs.runtime.reader import OrderedSplit, StreamPlan, batches_of, share_tables, token_stream
from llmcore.errors import ShardError
from llmcore.storage import Folder
from llmcore.tokens.order import share
from llmcore.tokens.shards import TokenShards
from tests.tiny import write_tokens

NUM_ROWS = 50
GLOBAL_BATCH = 7  # neither 2 nor 3 divides it
FIRST_STEP = 101
NUM_STEPS = 901  # several windows of steps, and many passes over the rows
SEED = 3


@pytest.mark.parametrize("world_size", [2, 3])
def test_each_rank_gets_its_rows_in_order_from_the_middle_on(
    ray_session: Session, tmp_path: Path, world_size: int
) -> None:
    tokens = write_tokens(Folder(str(tmp_path)), NUM_ROWS)
    plan = StreamPlan(tokens.url, SEED, GLOBAL_BATCH, world_size, FIRST_STEP, NUM_STEPS)
    assert plan.num_blocks >= 2 * world_size

    @ray.remote(num_cpus=0)
    def consume(rows: DataIterator, rank: int) -> pa.Table:
        return pa.concat_tables(share_tables(batches_of(rows, plan.share_size), plan, rank))

    shards = OrderedSplit(lambda _: token_stream(plan)).configure({"train": None}, world_size, None, None)
    found = ray.get([consume.remote(shard["train"], rank) for rank, shard in enumerate(shards)])
    for rank, table in enumerate(found):
        part = share(GLOBAL_BATCH, world_size, rank)
        steps = np.arange(FIRST_STEP, NUM_STEPS)
        due = (steps[:, None] * GLOBAL_BATCH + np.array(part)).reshape(-1)
        assert table["position"].to_numpy().tolist() == due.tolist()
        rows, epochs = TokenShards.open(tokens).order(SEED).rows(due)
        first_tokens = np.array([tokens[0] for tokens in table["tokens"].to_pylist()])
        assert first_tokens.tolist() == rows.tolist(), "the right numbers on the wrong rows"
        assert [passes for [passes] in table["source_epoch"].to_pylist()] == epochs.tolist()


def test_a_shard_that_cannot_be_read_is_named_to_the_worker(ray_session: Session, tmp_path: Path) -> None:
    tokens = write_tokens(Folder(str(tmp_path)), NUM_ROWS)
    path = Path(tokens.url, "train", "part-00001.arrow")
    path.write_bytes(path.read_bytes()[:300])
    plan = StreamPlan(tokens.url, SEED, GLOBAL_BATCH, 1, 0, 20)

    @ray.remote(num_cpus=0)
    def consume(rows: DataIterator) -> str:
        with pytest.raises(ShardError) as caught:
            list(share_tables(batches_of(rows, plan.share_size), plan, 0))
        return str(caught.value)

    (shard,) = OrderedSplit(lambda _: token_stream(plan)).configure({"train": None}, 1, None, None)
    message = ray.get(consume.remote(shard["train"]))
    assert "train/part-00001.arrow" in message and "run `prepare` again" in message
