"""What a rank holds, by the formulas; measured against real ranks in tests/integration/test_memory.py."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcore.cost.memory import Buckets, ModelSizes, buckets_for, peak_bytes, state_bytes

_PRECISIONS = st.sampled_from(["fp32", "bf16", "fp16"])
_SIZES = st.builds(
    lambda layer, others, vectors: ModelSizes(layer + others, layer, 2 * layer, vectors, vectors, layer + others),
    st.integers(1, 10**9),
    st.integers(0, 10**11),
    st.integers(0, 10**5),
)


@pytest.mark.parametrize(
    ("stage", "precision", "moment", "world_size", "bytes_a_parameter"),
    [
        (0, "fp32", "step_end", 8, 12),  # weights and moments; a gradient more before the update
        (0, "fp32", "after_backward", 8, 16),
        (1, "bf16", "step_end", 2, 8),
        (1, "bf16", "after_backward", 2, 9),
        (2, "bf16", "step_end", 4, 5),
        (2, "fp32", "after_backward", 4, 8),
        (3, "bf16", "step_end", 2, 8),
        (3, "bf16", "step_end", 4, 4),
        (3, "fp32", "after_backward", 4, 5),
    ],
)
def test_bytes_of_a_parameter(
    stage: int, precision: Any, moment: Any, world_size: int, bytes_a_parameter: float
) -> None:
    sizes, none = ModelSizes(1000, 10, 20, 0, 0, 1000), Buckets(0, 0, 0)
    held = state_bytes(sizes, stage=stage, precision=precision, world_size=world_size, moment=moment, buckets=none)
    assert held == 1000 * bytes_a_parameter


@pytest.mark.parametrize(
    ("stage", "moment", "num_bytes"),
    [
        (0, "step_end", 2 * 1000 + 8 * 100),
        (1, "step_end", 2 * 1000 + 12 * 50),
        (2, "after_backward", 2 * 1000 + 12 * 50 + 2 * 50),
        (3, "step_end", 2 * 500 + 2 * 50 + 12 * 50),
    ],
)
def test_what_does_not_train_has_weights_alone(stage: int, moment: Any, num_bytes: int) -> None:
    """A tenth of a thousand parameters trains, on two ranks in bf16."""
    sizes = ModelSizes(1000, 10, 20, 0, 0, num_trained=100)
    none = Buckets(0, 0, 0)
    assert state_bytes(sizes, stage=stage, precision="bf16", world_size=2, moment=moment, buckets=none) == num_bytes


@given(_SIZES, _PRECISIONS, st.integers(1, 512))
def test_more_ranks_and_later_stages_hold_no_more(sizes: ModelSizes, precision: Any, world_size: int) -> None:
    def held(stage: int, ranks: int) -> float:
        none = Buckets(0, 0, 0)
        shared = ModelSizes(
            sizes.num_parameters, sizes.largest_layer, sizes.largest_in_backward, 0, 0, sizes.num_trained
        )
        return state_bytes(
            shared, stage=stage, precision=precision, world_size=ranks, moment="after_backward", buckets=none
        )

    for stage in (1, 2, 3):
        assert held(stage, 2 * world_size) < held(stage, world_size)
    many = [held(stage, world_size + 7) for stage in (1, 2, 3)]
    assert all(later <= earlier for earlier, later in pairwise(many))


@given(_SIZES, _PRECISIONS, st.integers(1, 512))
def test_buckets_hold_a_layer_and_the_peak_what_it_is_made_of(
    sizes: ModelSizes, precision: Any, world_size: int
) -> None:
    assert buckets_for(sizes).live <= max(2**25, sizes.largest_layer) + 1
    assert buckets_for(sizes).live <= sizes.num_parameters + 1  # a small model's hold all of it, and no more
    buckets = buckets_for(sizes, at_least=0)
    assert buckets.reduce % 2 == 0
    assert buckets.reduce <= sizes.largest_layer + 1
    assert buckets.live <= sizes.largest_layer + 1
    share = state_bytes(sizes, stage=3, precision=precision, world_size=world_size, moment="step_end", buckets=buckets)
    peak = peak_bytes(sizes, precision=precision, world_size=world_size, buckets=buckets)
    assert peak >= share + 2 * sizes.largest_in_backward
