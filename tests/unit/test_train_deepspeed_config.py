"""DeepSpeed's JSON, as it is derived; and what it may not be."""

from typing import Any

import pytest
from pydantic import ValidationError

from llmcore.config.train import TrainSettings
from llmcore.cost.memory import ModelSizes
from llmcore.train.deepspeed_config import deepspeed_config, swap_buffer_bytes


def derived(
    num_parameters: int = 1000, precision: Any = "fp32", on_gpu: bool = False, **settings: Any
) -> dict[str, Any]:
    made = TrainSettings.model_validate({"num_steps": 1} | settings)
    sizes = ModelSizes(num_parameters, num_parameters, num_parameters, 0, 0, num_parameters)
    return deepspeed_config(made, precision=precision, world_size=2, sizes=sizes, on_gpu=on_gpu)


@pytest.mark.parametrize("num_parameters", [3_094_272, 3_094_273, 7, 2 * 10**9 + 1])
def test_buckets_are_no_larger_than_the_model_needs_and_even(num_parameters: int) -> None:
    """DeepSpeed 0.19.8 asserts that they are multiples of 2: a classifier's head easily makes a model's size odd."""
    zero = derived(num_parameters, zero_stage=2)["zero_optimization"]
    for name in ("reduce_bucket_size", "allgather_bucket_size"):
        size = zero[name]
        assert size % 2 == 0 and size <= 500_000_000 and size - min(num_parameters, 500_000_000) in (0, 1)


@pytest.mark.parametrize(("largest_layer", "bucket"), [(5 * 10**7 + 1, 5 * 10**7 + 2), (10**6, 2**25)])
def test_at_zero_3_a_layer_or_a_few_are_whole_at_a_time_and_a_key_of_ones_own_counts(
    largest_layer: int, bucket: int
) -> None:
    """Of DeepSpeed's default sizes a model of a billion parameters would be whole, and its buffer two gigabytes."""
    sizes = ModelSizes(10**9, largest_layer, 2 * largest_layer, largest_vector=4096, vectors=10**5, num_trained=10**9)
    own = {"zero_optimization": {"stage3_prefetch_bucket_size": 7}}
    settings = TrainSettings(num_steps=1, zero_stage=3, deepspeed=own)
    zero = deepspeed_config(settings, precision="bf16", world_size=8, sizes=sizes, on_gpu=True)["zero_optimization"]
    assert zero["reduce_bucket_size"] == zero["stage3_max_live_parameters"] == bucket
    assert zero["stage3_max_reuse_distance"] <= bucket
    assert zero["stage3_param_persistence_threshold"] == 4096
    assert zero["stage3_prefetch_bucket_size"] == 7


def test_fp16_scales_its_loss_dynamically() -> None:
    made = derived(precision="fp16", on_gpu=True)
    assert made["fp16"] == {"enabled": True, "loss_scale": 0, "initial_scale_power": 16}
    assert not made["bf16"]["enabled"]


@pytest.mark.parametrize(
    ("stage", "offload", "expected"),
    [
        (1, {"optimizer": "cpu"}, {"offload_optimizer": {"device": "cpu", "pin_memory": True}}),
        (
            3,
            {"optimizer": "cpu", "parameters": "cpu"},
            {
                "offload_optimizer": {"device": "cpu", "pin_memory": True},
                "offload_param": {"device": "cpu", "pin_memory": True},
            },
        ),
    ],
)
def test_what_is_offloaded(stage: int, offload: dict[str, str], expected: dict[str, Any]) -> None:
    zero = derived(zero_stage=stage, offload=offload, on_gpu=True)["zero_optimization"]
    assert {key: value for key, value in zero.items() if key.startswith("offload")} == expected


def test_on_nvme_what_is_in_memory_at_once_is_bounded() -> None:
    """Of DeepSpeed's defaults a sub-group is a billion elements, and as many weights stay in memory."""
    offload = {"optimizer": "nvme", "parameters": "nvme", "folder": "/disk"}
    zero = derived(num_parameters=1001, zero_stage=3, offload=offload)["zero_optimization"]
    assert zero["offload_optimizer"] == {"device": "nvme", "nvme_path": "/disk", "pin_memory": False}
    assert zero["offload_param"] == {
        "device": "nvme",
        "nvme_path": "/disk",
        "pin_memory": False,
        "max_in_cpu": 0,
        "buffer_size": 501,  # the largest layer's share of one of two ranks
        "buffer_count": 8,
    }
    assert zero["sub_group_size"] == 50_000_000
    assert zero["stage3_prefetch_bucket_size"] == zero["stage3_max_reuse_distance"] == 0
    sizes = ModelSizes(1001, 1001, 1001, 0, 0, 1001)
    assert swap_buffer_bytes({"zero_optimization": zero}, sizes, 2, "bf16") == 501 * (4 * 4 + 2 * (8 + 1))
    in_memory = derived(zero_stage=3, offload={"optimizer": "cpu", "parameters": "cpu"})["zero_optimization"]
    assert in_memory["sub_group_size"] > zero["sub_group_size"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"zero_stage": 0, "offload": {"optimizer": "cpu"}}, "needs a sharded optimizer: use zero_stage=1, 2 or 3"),
        ({"zero_stage": 2, "offload": {"parameters": "cpu"}}, "works at zero_stage=3, not at 2"),
        (
            {"zero_stage": 2, "offload": {"optimizer": "nvme", "folder": "/disk"}},
            "offload.optimizer=nvme works at zero_stage=3, not at 2: use that, or cpu",
        ),
        ({"zero_stage": 3, "offload": {"parameters": "nvme"}}, "offload to nvme needs offload.folder"),
        ({"zero_stage": 3, "offload": {"optimizer": "cpu", "folder": "/disk"}}, "is for nvme, and nothing is there"),
        ({"zero_stage": 3, "offload": {"optimizer": "nvme", "folder": "disk"}}, "offload.folder=disk is relative"),
        ({"zero_stage": 3, "offload": {"optimizer": "tape"}}, "'none', 'cpu' or 'nvme'"),
        (
            {"zero_stage": 3, "optimizer": {"kind": "muon"}, "offload": {"optimizer": "nvme", "folder": "/disk"}},
            "use adamw, or offload nothing",
        ),
        ({"optimizer": {"kind": "muon"}, "offload": {"optimizer": "cpu"}}, "use adamw, or offload nothing"),
        ({"zero_stage": 0, "precision": "fp16"}, "precision=fp16 with zero_stage=0"),
        ({"zero_stage": 0, "optimizer": {"kind": "muon"}}, "optimizer.kind=muon is DeepSpeed's"),
        ({"deepspeed": {"fp16": {"enabled": True}}}, "deepspeed.fp16 is derived from precision"),
        (
            {"deepspeed": {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}},
            "deepspeed.zero_optimization.offload_optimizer is derived from offload.optimizer",
        ),
        ({"deepspeed": {"activation_checkpointing": {}}}, "derived from activation_checkpointing"),
        ({"deepspeed": {"tensorboard": {"enabled": True}}}, "derived from trackers"),
        ({"spikes": {"factor": 1.0}}, "factor"),
    ],
)
def test_a_contradiction_is_told_with_its_fix(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        TrainSettings.model_validate({"num_steps": 1} | settings)
    assert message in str(error.value)


def test_anything_else_is_passed_through() -> None:
    made = derived(deepspeed={"zero_optimization": {"overlap_comm": True}, "communication_data_type": "fp32"})
    assert made["zero_optimization"]["overlap_comm"] is True
    assert made["zero_optimization"]["stage"] == 2
    assert made["communication_data_type"] == "fp32"


def test_nothing_of_what_has_a_norm_of_its_own_is_clipped() -> None:
    assert derived(zero_stage=2)["gradient_clipping"] == 1.0
    assert derived(zero_stage=2, optimizer={"kind": "muon"})["gradient_clipping"] == 0.0
    assert derived(zero_stage=0)["gradient_clipping"] == 0.0, "the engine clips"
