"""Which rows go to which rank: arithmetic, the same for every number of workers."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.runtime import reader
from jobs.runtime.reader import StreamPlan, batches_of, share_tables
from llmcore.errors import RunError
from llmcore.tokens.mixture import MixtureOrder, SourceRows

plans = st.builds(
    StreamPlan,
    tokens=st.just("/none"),
    seed=st.just(0),
    global_batch=st.integers(1, 40),
    world_size=st.integers(1, 8),
    first_step=st.integers(0, 20),
    num_steps=st.integers(21, 90),
)


def dealt(plan: StreamPlan) -> dict[int, list[np.ndarray]]:
    """Blocks as `streaming_split` deals them: in order, one rank after the other."""
    ranks: dict[int, list[np.ndarray]] = {rank: [] for rank in range(plan.world_size)}
    for block in range(plan.num_blocks):
        ranks[block % plan.world_size].append(plan.positions(block))
    return ranks


@given(plans, st.integers(1, 64))
def test_every_position_is_read_once_and_in_its_step(plan: StreamPlan, rows_per_block: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(reader, "_ROWS_PER_BLOCK", rows_per_block)  # so that there is more than one window
        of_rank = {rank: np.concatenate(blocks) for rank, blocks in dealt(plan).items()}
        num_rows = {len(positions) for positions in of_rank.values()}
        assert num_rows == {plan.share_size * (plan.num_steps - plan.first_step)}, "ranks must take equally many rows"
        seen = []
        for number, step in enumerate(range(plan.first_step, plan.num_steps)):
            shares = [of_rank[rank].reshape(-1, plan.share_size)[number] for rank in range(plan.world_size)]
            together = np.concatenate([share[share >= 0] for share in shares])
            assert together.tolist() == list(range(step * plan.global_batch, (step + 1) * plan.global_batch))
            seen.append(together)
        assert len(np.concatenate(seen)) == plan.global_batch * (plan.num_steps - plan.first_step)


@st.composite
def mixtures(draw: st.DrawFn) -> MixtureOrder:
    sizes = draw(st.lists(st.integers(1, 60), min_size=1, max_size=4))
    firsts = np.cumsum([0, *sizes])
    weights = [draw(st.floats(0.05, 10)) for _ in sizes]
    sources = tuple(
        SourceRows(int(first), size, weight) for first, size, weight in zip(firsts, sizes, weights, strict=False)
    )
    return MixtureOrder(sources, rows_per_block=draw(st.integers(1, 20)), seed=draw(st.integers(0, 2**40)))


@given(
    order=mixtures(),
    global_batch=st.integers(1, 24),
    worlds=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    steps=st.lists(st.integers(1, 12), min_size=4, max_size=4),
)
@settings(deadline=None)
def test_kills_and_other_world_sizes_change_no_row(
    order: MixtureOrder, global_batch: int, worlds: list[int], steps: list[int]
) -> None:
    """Each start goes on from a checkpoint at another world size; what all have read, in steps, is one order."""
    last = sum(steps[: len(worlds)])
    read = []
    first_step = 0
    for world_size, lasted in zip(worlds, steps, strict=False):
        plan = StreamPlan("/none", 0, global_batch, world_size, first_step, last)  # it would go on to the end
        of_rank = {rank: np.concatenate(blocks).reshape(-1, plan.share_size) for rank, blocks in dealt(plan).items()}
        for number in range(lasted):  # and is killed here
            positions = np.concatenate([of_rank[rank][number] for rank in range(world_size)])
            read.append(order.rows(positions[positions >= 0]))
        first_step += lasted
    rows, epochs = order.rows(np.arange(last * global_batch))
    assert np.concatenate([found for found, _ in read]).tolist() == rows.tolist()
    assert np.concatenate([passes for _, passes in read]).tolist() == epochs.tolist()


@given(plans)
def test_blocks_of_one_window_have_the_same_size(plan: StreamPlan) -> None:
    sizes = [len(plan.positions(block)) for block in range(plan.num_blocks)]
    for window in range(0, plan.num_blocks, plan.world_size):
        assert len(set(sizes[window : window + plan.world_size])) == 1


class Stream:
    """What a worker's shard is: rows of one rank, possibly not those that are due."""

    def __init__(self, positions: list[int]) -> None:
        self._rows = pa.table({"position": pa.array(positions, pa.int64())})

    def iter_batches(self, *, batch_size: int, **_: object) -> "list[pa.Table]":
        starts = range(0, self._rows.num_rows, batch_size)
        return [self._rows.slice(start, batch_size) for start in starts]


PLAN = StreamPlan(tokens="/none", seed=0, global_batch=5, world_size=2, first_step=1, num_steps=3)
OF_RANK_1 = [8, 9, -1, 13, 14, -1]


def read(positions: list[int]) -> list[list[int]]:
    batches = batches_of(Stream(positions), PLAN.share_size)  # type: ignore[arg-type]
    return [table["position"].to_pylist() for table in share_tables(batches, PLAN, rank=1)]


def test_a_rank_gets_a_table_for_each_step_without_padding() -> None:
    assert read(OF_RANK_1) == [[8, 9], [13, 14]]


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([8, 9, -1, 14, 13, -1], "rank 1, step 3: the stream gave positions"),
        ([5, 6, 7, 10, 11, 12], "rank 1, step 2: the stream gave positions"),
        (OF_RANK_1[:3], "rank 1: the stream ended after step 2 of 3"),
        (OF_RANK_1 + OF_RANK_1[3:], "rank 1, step 4"),
    ],
    ids=["out of order", "of another rank", "too short", "too long"],
)
def test_a_stream_that_is_not_the_plans_is_refused(positions: list[int], message: str) -> None:
    with pytest.raises(RunError, match=message):
        read(positions)
