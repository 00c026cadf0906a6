"""What a training will need: by calculation, from its configuration and what is counted of its model."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from jobs.runtime.plan_words import in_bytes
from llmcore.config.common import WorkerSettings
from llmcore.config.train import TrainSettings
from llmcore.cost.devices import Device, Precision
from llmcore.cost.plan import (
    USABLE,
    Placement,
    RankMemory,
    checkpoint_bytes,
    compute_optimal,
    fitting,
    rank_memory,
    training_hours,
)
from llmcore.errors import ConfigError
from llmcore.train.lengths import last_step

if TYPE_CHECKING:
    from llmcore.train.needs import Needs

__all__ = ["GIB", "Asked", "PlannedTraining", "plan_training", "precision_for"]

GIB = 2**30


@dataclass(frozen=True)
class Asked:
    """What a plan is to say beside what the configuration says.

    Attributes:
        device: The GPU that it is for; None where nobody says.
        num_devices: How many; None takes a device a worker.
        utilization: The lowest and the highest share of the device's peak that training is expected to use (MFU).
        measured: FLOP/s of a device of an earlier run; it stands for both.
        price: The lowest and the highest price of a device-hour; None where it is not known.
        currency: Of the price.
    """

    device: Device | None = None
    num_devices: int | None = None
    utilization: tuple[float, float] = (0.3, 0.5)
    measured: float | None = None
    price: tuple[float, float] | None = None
    currency: str = "USD"


@dataclass(frozen=True)
class PlannedTraining:
    """A training by calculation.

    Attributes:
        needs: What its model and rows ask.
        placement: As it is configured.
        num_steps: Optimizer steps; None where the epochs are of rows that are not there yet.
        tokens_per_step: Mean over steps.
        memory: Of a rank as configured.
        by_stage: The same at each ZeRO stage.
        checkpoint_bytes: Of one checkpoint.
        num_checkpoints: That are kept.
        hours: The lowest and the highest by the clock; None where a device is not known.
        pretrains: Whether it is a pre-training, of which one asks what learns most of as many FLOPs.
    """

    needs: "Needs"
    asked: Asked
    placement: Placement
    num_steps: int | None
    tokens_per_step: float
    memory: RankMemory
    by_stage: Mapping[int, RankMemory]
    checkpoint_bytes: int
    num_checkpoints: int
    hours: tuple[float, float] | None
    pretrains: bool = False

    @property
    def num_tokens(self) -> float | None:
        """Tokens of the whole run."""
        return None if self.num_steps is None else self.num_steps * self.tokens_per_step

    @property
    def flops(self) -> float | None:
        """Of the whole run."""
        return None if self.num_tokens is None else self.num_tokens * self.needs.flops_per_token

    @property
    def money(self) -> tuple[float, float] | None:
        """The lowest and the highest price of all device-hours."""
        if self.hours is None or self.asked.price is None:
            return None
        low, high = (
            hours * price * self.placement.world_size for hours, price in zip(self.hours, self.asked.price, strict=True)
        )
        return low, high

    def check_fits(self) -> None:
        """Raises ConfigError where it does not fit the device, with the nearest that does."""
        device = self.asked.device
        if device is None or self.memory.device <= device.memory_gib * GIB * USABLE:
            return
        nearest = fitting(self.needs.load, self.placement, device.memory_gib * GIB)
        instead = (
            f"{nearest.told()} does: set train.zero_stage={nearest.stage} train.micro_batch_size="
            f"{nearest.micro_batch_size}"
            + (" train.activation_checkpointing=true" if nearest.activation_checkpointing else "")
            + (" train.offload.optimizer=cpu" if nearest.offload_optimizer else "")
            + (" train.offload.parameters=cpu" if nearest.offload_parameters else "")
            if nearest is not None
            else "nothing does, not one row with all offloaded: take more devices or larger ones, or a smaller model"
        )
        raise ConfigError(
            f"{self.placement.told()} needs {in_bytes(self.memory.device)} on each of {self.placement.world_size} "
            f"ranks, and one {device.name} has {device.memory_gib} GiB, of which {USABLE:.0%} are for tensors: "
            f"{instead}"
        )

    @property
    def smallest_stage(self) -> int | None:
        """The smallest that fits the device as all else is configured; None where none does."""
        device = self.asked.device
        room = 0.0 if device is None else device.memory_gib * GIB * USABLE
        return next((stage for stage, memory in self.by_stage.items() if memory.device <= room), None)

    def record(self) -> dict[str, Any]:
        """Plain JSON."""
        optimum = None if self.flops is None else compute_optimal(self.flops)
        return {
            "family": self.needs.family,
            "num_parameters": self.needs.load.sizes.num_parameters,
            "num_trained_parameters": self.needs.load.sizes.num_trained,
            "precision": self.needs.load.precision,
            "placement": self.placement._asdict(),
            "flops_per_token": self.needs.flops_per_token,
            "tokens_per_step": self.tokens_per_step,
            "num_steps": self.num_steps,
            "num_tokens": self.num_tokens,
            "flops": self.flops,
            "memory": asdict(self.memory) | {"device": self.memory.device},
            "memory_by_stage": {str(stage): memory.device for stage, memory in self.by_stage.items()},
            "device": None if self.asked.device is None else self.asked.device.name,
            "smallest_stage": self.smallest_stage,
            "checkpoint_bytes": self.checkpoint_bytes,
            "num_checkpoints": self.num_checkpoints,
            "hours": self.hours,
            "money": self.money,
            "currency": self.asked.currency if self.money else None,
            "compute_optimal": optimum and {"num_parameters": optimum[0], "num_tokens": optimum[1]},
        }


def precision_for(train: TrainSettings, device: Device | None) -> Precision:
    """What `auto` comes to on a device; where none is named, fp32."""
    if train.precision != "auto":
        return train.precision
    return "bf16" if device is not None and device.bf16 is not None and train.zero_stage else "fp32"


def plan_training(train: TrainSettings, workers: WorkerSettings, needs: "Needs", asked: Asked) -> PlannedTraining:
    """The plan of a training with these needs."""
    world_size = asked.num_devices or workers.num_workers
    rows = min(train.micro_batch_size, -(-train.global_batch_size // world_size))
    offload = train.offload
    placement = Placement(
        train.zero_stage,
        world_size,
        rows,
        train.activation_checkpointing,
        offload.optimizer != "none",
        offload.parameters != "none",
    )
    plain = placement._replace(offload_optimizer=False, offload_parameters=False)
    num_steps = None
    if train.num_steps is not None or needs.num_rows is not None:
        num_steps = last_step(train, needs.num_rows or 0)
    tokens_per_step = train.global_batch_size * needs.tokens_per_row
    plan = PlannedTraining(
        needs=needs,
        asked=asked,
        placement=placement,
        num_steps=num_steps,
        tokens_per_step=tokens_per_step,
        memory=rank_memory(needs.load, placement),
        by_stage={stage: rank_memory(needs.load, plain._replace(stage=stage)) for stage in range(4)},
        checkpoint_bytes=checkpoint_bytes(needs.load.sizes),
        num_checkpoints=_num_checkpoints(train, num_steps),
        hours=None,
    )
    hours = None if plan.flops is None else _hours(plan.flops, world_size, needs.load.precision, asked)
    return replace(plan, hours=hours)


def _num_checkpoints(train: TrainSettings, num_steps: int | None) -> int:
    every = train.checkpoint_every or num_steps or 1
    made = 1 if num_steps is None else -(-num_steps // every)
    for_good = 0 if train.keep_every is None or num_steps is None else num_steps // train.keep_every
    return min(made, train.keep_checkpoints + train.keep_best + for_good)


def _hours(flops: float, num_devices: int, precision: str, asked: Asked) -> tuple[float, float] | None:
    peak = asked.device.peak_flops_per_s(precision) if asked.device else None
    if asked.measured is not None:
        hours = training_hours(flops, flops_per_s=asked.measured, num_devices=num_devices, utilization=1.0)
        return hours, hours
    if peak is None:
        return None
    low, high = asked.utilization
    at = [training_hours(flops, flops_per_s=peak, num_devices=num_devices, utilization=one) for one in (high, low)]
    return at[0], at[1]
