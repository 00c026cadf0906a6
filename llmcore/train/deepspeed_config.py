"""DeepSpeed's own JSON, derived from the typed settings."""

from collections.abc import Mapping
from typing import Any

from llmcore.config.offload import OffloadSettings
from llmcore.config.train import TrainSettings
from llmcore.cost.memory import Buckets, ModelSizes, buckets_for
from llmcore.train.precision import DTYPES, Precision

__all__ = ["deepspeed_config", "gathering", "num_micro_batches", "swap_buffer_bytes"]

_LARGEST_BUCKET = 500_000_000
_SWAPPED_AT_ONCE = 50_000_000
"""Elements of a rank's share that are in memory at once, of each of its states: four buffers of 200 MB."""
_NUM_STATES = 4
"""Master, two moments, gradient; as many buffers DeepSpeed has by default."""
_NUM_BUFFERS = 8
"""For a rank's shares of the weights that are in use: those of one module, and of those that it stands in."""


def num_micro_batches(settings: TrainSettings, world_size: int) -> int:
    """Micro batches of each rank in one step: the largest share, in parts of at most `micro_batch_size` rows."""
    largest_share = -(-settings.global_batch_size // world_size)
    return -(-largest_share // settings.micro_batch_size)


def deepspeed_config(
    settings: TrainSettings, *, precision: Precision, world_size: int, sizes: ModelSizes, on_gpu: bool
) -> dict[str, Any]:
    """The JSON for `deepspeed.initialize`; what `settings.deepspeed` gives besides is passed through."""
    accumulation = num_micro_batches(settings, world_size)
    passed = dict(settings.deepspeed)
    zero = _zero(settings, sizes, world_size, on_gpu) | passed.pop("zero_optimization", {})
    return {
        # Only the number of micro batches matters to DeepSpeed; rows are counted by the loop.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": accumulation,
        "train_batch_size": accumulation * world_size,
        "gradient_clipping": _clipping(settings),
        # A norm that is not finite discards the step, at every stage.
        "bf16": {"enabled": precision == "bf16", "check_grad_overflow": True},
        # Loss scale 0 is a dynamic one: halved where a gradient overflows, doubled after many steps without.
        "fp16": {"enabled": precision == "fp16", "loss_scale": 0, "initial_scale_power": 16},
        "zero_optimization": zero,
        # torch's fused AdamW is vectorized on the CPU too, where offload takes it, and needs no compiler.
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 2**31 - 1,
        "wall_clock_breakdown": False,
        **passed,
    }


def swap_buffer_bytes(config: Mapping[str, Any], sizes: ModelSizes, world_size: int, precision: Precision) -> int:
    """Bytes of memory that DeepSpeed locks on a rank, of which it swaps to NVMe; by the JSON made for it."""
    zero, weight = config["zero_optimization"], DTYPES[precision].itemsize
    share, largest = -(-sizes.num_parameters // world_size), -(-sizes.largest_layer // world_size)
    sub_group = min(share, zero["sub_group_size"] + largest)  # closed by the parameter that fills it
    num_bytes = 0
    if zero.get("offload_optimizer", {}).get("device") == "nvme":
        num_bytes += _NUM_STATES * sub_group * 4
    if zero.get("offload_param", {}).get("device") == "nvme":
        buffers = zero["offload_param"]["buffer_count"] * zero["offload_param"]["buffer_size"]
        num_bytes += weight * (buffers + sub_group)
    return num_bytes


def gathering(sizes: ModelSizes, buckets: Buckets) -> dict[str, Any]:
    """At ZeRO-3: how much is whole at a time, in DeepSpeed's words."""
    return {
        "reduce_bucket_size": buckets.reduce,
        "stage3_max_live_parameters": buckets.live,
        "stage3_max_reuse_distance": buckets.live,
        "stage3_prefetch_bucket_size": buckets.live // 2,
        "stage3_param_persistence_threshold": sizes.largest_vector,
        "sub_group_size": buckets.update,
    }


def _clipping(settings: TrainSettings) -> float:
    if settings.zero_stage == 0:
        return 0.0  # the engine clips: DeepSpeed would step with a norm that is not finite
    if settings.optimizer.kind == "muon":
        return 0.0  # DeepSpeed clips what Muon made of the gradients: its norm is the matrices' rank
    return settings.optimizer.max_grad_norm


def _zero(settings: TrainSettings, sizes: ModelSizes, world_size: int, on_gpu: bool) -> dict[str, Any]:
    # Buffers of the default size, half a billion elements, are allocated whatever the model has. They must be even.
    bucket = min(_LARGEST_BUCKET, sizes.num_trained + sizes.num_trained % 2)
    zero: dict[str, Any] = {"stage": settings.zero_stage, "reduce_bucket_size": bucket}
    if settings.zero_stage == 3:
        zero |= gathering(sizes, buckets_for(sizes))
    if settings.zero_stage in (1, 2):
        zero["allgather_bucket_size"] = bucket
    if settings.zero_stage == 2 and not on_gpu:
        # They are copied to one buffer lest a GPU's memory fragments; on CPU there is nothing to gain by that.
        zero["contiguous_gradients"] = False
    if settings.zero_stage == 3 and settings.optimizer.kind == "muon":
        zero["reduce_scatter"] = False  # Muon needs whole matrices
    return zero | _offload(settings.offload, sizes, world_size, on_gpu)


def _offload(offload: OffloadSettings, sizes: ModelSizes, world_size: int, on_gpu: bool) -> dict[str, Any]:
    zero: dict[str, Any] = {}
    for key, device in (("offload_optimizer", offload.optimizer), ("offload_param", offload.parameters)):
        if device != "none":
            zero[key] = {"device": device, "pin_memory": on_gpu}
        if device == "nvme":
            zero[key]["nvme_path"] = offload.folder
    if offload.on_nvme:
        zero["sub_group_size"] = _SWAPPED_AT_ONCE
    if offload.parameters == "nvme":
        # By default a billion parameters would stay in memory, beside buffers of half a billion.
        largest_share = -(-sizes.largest_layer // world_size)
        zero["offload_param"] |= {"max_in_cpu": 0, "buffer_size": largest_share, "buffer_count": _NUM_BUFFERS}
        # What is fetched ahead takes buffers from what is needed now, and tied weights twice: it fails (0.19.8).
        zero |= {"stage3_prefetch_bucket_size": 0, "stage3_max_reuse_distance": 0}
    return zero
