"""What a training will need, by calculation: memory of a rank, what fits a device, time and money."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

from llmcore.cost.devices import Precision
from llmcore.cost.memory import ModelSizes, buckets_for, peak_bytes, state_bytes

__all__ = [
    "Activations",
    "Load",
    "USABLE",
    "Placement",
    "RankMemory",
    "checkpoint_bytes",
    "compute_optimal",
    "fitting",
    "largest_micro_batch",
    "rank_memory",
    "training_hours",
]

USABLE = 0.92
"""Share of a device's memory that tensors get: the others are its context, NCCL's buffers, and what lies between."""
_STATE = 12
"""Bytes of a parameter's fp32 master and its two moments."""
_LARGEST_BUCKET = 500_000_000
_TOKENS_PER_PARAMETER = 20.0


class Activations(NamedTuple):
    """Bytes that are kept at the worst moment of a step: those that any batch needs, and of each row."""

    fixed: float
    per_row: float

    def of(self, num_rows: int) -> float:
        """Of a micro batch."""
        return self.fixed + self.per_row * num_rows


@dataclass(frozen=True)
class Load:
    """What a model and its rows ask of the ranks, whatever the ranks are.

    Attributes:
        sizes: The model's.
        precision: What it computes in.
        activations: Where all are kept.
        checkpointed: Where a layer's are computed anew.
    """

    sizes: ModelSizes
    precision: Precision
    activations: Activations
    checkpointed: Activations


class Placement(NamedTuple):
    """How ZeRO lays a training out over ranks."""

    stage: int
    world_size: int
    micro_batch_size: int
    activation_checkpointing: bool = False
    offload_optimizer: bool = False
    offload_parameters: bool = False

    def told(self) -> str:
        """For a line of text."""
        away = [name for name in ("optimizer", "parameters") if getattr(self, f"offload_{name}")]
        return ", ".join(
            [
                f"ZeRO-{self.stage}",
                f"micro_batch_size={self.micro_batch_size}",
                *(["activation_checkpointing"] if self.activation_checkpointing else []),
                *([f"{' and '.join(away)} offloaded"] if away else []),
            ]
        )


@dataclass(frozen=True)
class RankMemory:
    """Bytes of a rank at the worst moment of a step.

    Attributes:
        states: Weights, masters and moments.
        gradients: With DeepSpeed's buffers, and at ZeRO-3 the layer that is whole.
        activations: With the largest gradient of one.
        host: Of the host's memory, where something is offloaded.
        buffers: Of the gradients' bytes, those that are DeepSpeed's buffers, and at ZeRO-3 the layer.
    """

    states: float
    gradients: float
    activations: float
    host: float
    buffers: float = 0.0

    @property
    def device(self) -> float:
        """All that the device holds."""
        return self.states + self.gradients + self.activations


def rank_memory(load: Load, placement: Placement) -> RankMemory:
    """The memory of a rank that is trained on so.

    States are those of `state_bytes`. While the backward pass runs, ZeRO-0 and 1 hold all gradients, ZeRO-2 a rank's
    share and the bucket that is reduced; ZeRO-3 what `peak_bytes` has beside its share.
    """
    stage, world_size = placement.stage, placement.world_size
    sizes, weight = load.sizes, 4 if load.precision == "fp32" else 2
    buckets = buckets_for(sizes)
    states = state_bytes(
        sizes, stage=stage, precision=load.precision, world_size=world_size, moment="step_end", buckets=buckets
    )
    trained = weight * sizes.num_trained
    bucket = weight * min(_LARGEST_BUCKET, sizes.num_trained)
    match stage:
        case 0:
            own, buffers = float(trained), 0.0
        case 1:
            own, buffers = float(trained), float(bucket)
        case 2:
            own, buffers = trained / world_size, float(bucket)
        case _:  # its share is among the states
            peak = peak_bytes(sizes, precision=load.precision, world_size=world_size, buckets=buckets)
            own, buffers = 0.0, peak - states
    away = _STATE * sizes.num_trained / world_size if placement.offload_optimizer else 0.0
    away += weight * sizes.num_parameters / world_size if placement.offload_parameters else 0.0
    kept = load.checkpointed if placement.activation_checkpointing else load.activations
    activations = kept.of(placement.micro_batch_size)
    return RankMemory(states - away, own + buffers, activations, host=away, buffers=buffers)


def largest_micro_batch(load: Load, placement: Placement, device_bytes: float) -> int:
    """The most rows of a micro batch that fit so many bytes; 0 where none does."""
    without = rank_memory(load, placement._replace(micro_batch_size=0)).device
    kept = load.checkpointed if placement.activation_checkpointing else load.activations
    return max(0, int((device_bytes * USABLE - without) / kept.per_row))


def fitting(load: Load, placement: Placement, device_bytes: float) -> Placement | None:
    """The first that fits with a row at least: what was asked for, then what changes least of it, then what costs most.

    A later stage and then activations that are computed anew cost time; offloading costs more.
    """
    for candidate in _further(placement):
        most = largest_micro_batch(load, candidate, device_bytes)
        if most:
            return candidate._replace(micro_batch_size=min(most, placement.micro_batch_size))
    return None


def _further(placement: Placement) -> Iterator[Placement]:
    stages = range(placement.stage, 4)
    yield from (placement._replace(stage=stage) for stage in stages)
    yield from (placement._replace(stage=stage, activation_checkpointing=True) for stage in stages)
    anew = placement._replace(activation_checkpointing=True)
    yield from (anew._replace(stage=stage, offload_optimizer=True) for stage in stages if stage)
    yield anew._replace(stage=3, offload_optimizer=True, offload_parameters=True)


def checkpoint_bytes(sizes: ModelSizes) -> int:
    """Of one checkpoint: masters and moments of what trains, in fp32."""
    return _STATE * sizes.num_trained


def training_hours(flops: float, *, flops_per_s: float, num_devices: int, utilization: float) -> float:
    """Hours by the clock of so many FLOPs on devices with a peak of `flops_per_s`, used to a share (MFU)."""
    return flops / (flops_per_s * num_devices * utilization) / 3600


def compute_optimal(flops: float) -> tuple[float, float]:
    """Parameters and tokens of the model that learns most from a budget of training FLOPs: 20 tokens a parameter.

    Source: Hoffmann et al. 2022 (Chinchilla, arXiv 2203.15556), table 3, with C = 6 N D.
    """
    num_parameters = sqrt(flops / (6 * _TOKENS_PER_PARAMETER))
    return num_parameters, _TOKENS_PER_PARAMETER * num_parameters
