"""DeepSpeed's JSON, as it is derived."""

import pytest

from llmcore.config.train import TrainSettings
from llmcore.cost.memory import ModelSizes
from llmcore.train.deepspeed_config import deepspeed_config


@pytest.mark.parametrize("num_parameters", [3_094_272, 3_094_273, 7, 2 * 10**9 + 1])
def test_buckets_are_no_larger_than_the_model_needs_and_even(num_parameters: int) -> None:
    """DeepSpeed 0.19.8 asserts that they are multiples of 2: a classifier's head easily makes a model's size odd."""
    settings = TrainSettings(num_steps=1, zero_stage=2)
    sizes = ModelSizes(num_parameters, num_parameters, num_parameters, 0, 0)
    made = deepspeed_config(settings, precision="fp32", world_size=2, sizes=sizes, on_gpu=False)
    for name in ("reduce_bucket_size", "allgather_bucket_size"):
        size = made["zero_optimization"][name]
        assert size % 2 == 0 and size <= 500_000_000 and size - min(num_parameters, 500_000_000) in (0, 1)


def test_at_zero_3_a_layer_is_whole_at_a_time_and_a_key_of_ones_own_counts() -> None:
    """Of DeepSpeed's default sizes a model of a billion parameters would be whole, and its buffer two gigabytes."""
    sizes = ModelSizes(10**9, 10**7 + 1, 2 * 10**7, largest_vector=4096, vectors=10**5)
    own = {"zero_optimization": {"stage3_prefetch_bucket_size": 7}}
    settings = TrainSettings(num_steps=1, zero_stage=3, deepspeed=own)
    zero = deepspeed_config(settings, precision="bf16", world_size=8, sizes=sizes, on_gpu=True)["zero_optimization"]
    assert zero["reduce_bucket_size"] == zero["stage3_max_live_parameters"] == 10**7 + 2
    assert zero["stage3_max_reuse_distance"] <= 10**7 + 2
    assert zero["stage3_param_persistence_threshold"] == 4096
    assert zero["stage3_prefetch_bucket_size"] == 7
