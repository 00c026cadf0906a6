"""DeepSpeed behind the few things the loop needs; `optimizers.py` and `swapping.py` take one piece of it each."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import deepspeed
import torch
from deepspeed.utils import set_z3_leaf_module
from torch import Tensor, distributed, nn

from llmcore.config.train import TrainSettings
from llmcore.errors import NonFiniteError
from llmcore.models.dropout import quicken_dropout
from llmcore.models.initialize import Home, whole_shape
from llmcore.models.layers import fed_with_gradients
from llmcore.models.memory import model_sizes
from llmcore.objectives.base import Objective
from llmcore.train.deepspeed_config import deepspeed_config, swap_buffer_bytes
from llmcore.train.layers import checkpoint_activations, compile_layers
from llmcore.train.optimizers import build_optimizer
from llmcore.train.precision import DTYPES, Precision
from llmcore.train.schedule import learning_rate_factor
from llmcore.train.shared_buffer import unlink_shared_buffer
from llmcore.train.summed import Summed
from llmcore.train.swapping import check_lockable, load_async_io

__all__ = ["Engine", "StepResult", "parameter_home"]


@dataclass(frozen=True)
class StepResult:
    """One optimizer step, over all ranks.

    Attributes:
        loss: Of the global batch.
        grad_norm: Before clipping; infinite where the gradient was thrown away.
        learning_rate: Of this step.
        num_tokens: Real tokens of the global batch.
        num_targets: Targets of each part of the loss.
        stop: Whether a rank was asked to stop: the same on all.
        skipped: Why the optimizer did not step, else None. An overflow is fp16's: its loss scale was too high.
        loss_scale: What fp16's next loss is multiplied by; None in other precisions.
    """

    loss: float
    grad_norm: float
    learning_rate: float
    num_tokens: int
    num_targets: tuple[int, ...]
    stop: bool
    skipped: Literal["spike", "overflow"] | None = None
    loss_scale: float | None = None


Measure = Callable[[nn.Module, Any], Tensor]


def parameter_home(settings: TrainSettings, precision: Precision, device: torch.device) -> Home | None:
    """Where a model's parameters live as soon as they are made: at ZeRO-3 a share of each on each rank.

    None at other stages: they stay whole. A collective for each parameter. Raises ConfigError where they, or the
    optimizer's state, are to be on NVMe, and this node has not what that needs.
    """
    if settings.zero_stage < 3:
        return None

    def home(model: nn.Module) -> Callable[[nn.Parameter], None]:
        sizes, world_size = model_sizes(model), distributed.get_world_size()
        config = deepspeed_config(
            settings, precision=precision, world_size=world_size, sizes=sizes, on_gpu=device.type == "cuda"
        )
        if settings.offload.on_nvme:
            check_lockable(swap_buffer_bytes(config, sizes, world_size, precision))
            load_async_io()
        # DeepSpeed would do so itself, after it has looked at the world size, which would be 1.
        deepspeed.init_distributed(dist_init_required=False)
        # Given a module, it also exchanges `linear` for one that keeps no gathered weight for the backward pass.
        # It takes the number format from its JSON; of one given as an argument it makes bf16 on CPUs (0.19.8).
        sharding = deepspeed.zero.Init(nn.Module(), config_dict_or_path=config)

        def share(parameter: nn.Parameter) -> None:
            parameter.data = parameter.data.to(device, DTYPES[precision])
            # As its context manager does after each module's `__init__`, which shards weights before they have values.
            sharding._convert_to_zero_parameters([parameter])

        return share

    return home


class _LossModule(nn.Module):
    """What DeepSpeed wraps: the model and its objective, so that ZeRO-3's hooks see the whole forward pass."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self._objective = objective

    def forward(self, batch: Any, measure: Measure | None = None) -> Tensor:
        return (measure or self._objective.loss_sums)(self.model, batch)


def _is_small(layer: nn.Module, zero: Mapping[str, Any]) -> bool:
    """Whether ZeRO-3 gathers a layer's weights together: twice as many have room.

    A collective for each matrix of a thin layer costs more than what it brings; for a thick one it costs nothing beside
    that, and less is whole at once.
    """
    size = sum(whole_shape(parameter).numel() for parameter in layer.parameters())
    room: int = zero.get("stage3_max_live_parameters", 0)
    return 2 * size <= room


class Engine:
    """A model, its objective and its optimizer, sharded by DeepSpeed ZeRO over the ranks of the process group."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        settings: TrainSettings,
        *,
        num_steps: int,
        precision: Precision,
        device: torch.device,
    ) -> None:
        self.settings = settings
        self.objective = objective
        self.num_steps = num_steps
        self.precision = precision
        self.device = device
        self.world_size = distributed.get_world_size()
        self.sizes = model_sizes(model)
        if settings.activation_checkpointing:
            checkpoint_activations(model)
        if settings.compile:
            compile_layers(model)
        elif device.type == "cpu":  # what is compiled draws in its own way
            quicken_dropout(model)
        config = deepspeed_config(
            settings, precision=precision, world_size=self.world_size, sizes=self.sizes, on_gpu=device.type == "cuda"
        )
        # From NVMe each matrix takes one of a few buffers. And DeepSpeed reduces the gradients of what is gathered
        # together when that of its input is there (0.19.8): of the first layer over frozen ones there is none.
        together = fed_with_gradients(model) if settings.offload.parameters != "nvme" else ()
        for layer in together:
            set_z3_leaf_module(layer, _is_small(layer, config["zero_optimization"]))
        self._deepspeed, *_ = deepspeed.initialize(
            model=_LossModule(model.to(device), objective),
            optimizer=build_optimizer(model, settings.optimizer),
            config=config,
            dist_init_required=False,
        )
        unlink_shared_buffer()
        if settings.zero_stage in (1, 2) and settings.offload.optimizer == "none":
            # Gradients that are not finite show in their norm, and DeepSpeed looks at it. It need not look at each one
            # before, which is a second pass.
            self.zero_optimizer.check_overflow = lambda partition_gradients: None

    @property
    def num_parameters(self) -> int:
        """Of the model, tied ones once."""
        return self.sizes.num_parameters

    @property
    def num_trained_parameters(self) -> int:
        """Those of them that have a gradient."""
        return self.sizes.num_trained

    @property
    def model(self) -> nn.Module:
        """The model itself."""
        return self._deepspeed.module.model  # type: ignore[no-any-return]

    @property
    def zero_optimizer(self) -> Any:
        """DeepSpeed's optimizer, whose private state checkpoints read and write."""
        return self._deepspeed.optimizer

    def step(
        self,
        step: int,
        micro_batches: Sequence[Any],
        is_spike: Callable[[float], bool] | None = None,
        *,
        stop: bool = False,
    ) -> StepResult:
        """One optimizer step on this rank's micro batches of a global batch. A collective.

        Each part of the loss is the sum over its targets in the global batch divided by their number, whatever each
        rank holds. Where `is_spike` says so of the loss, or the gradient is not finite, nothing of it reaches the
        weights or the optimizer's state.

        Raises:
            NonFiniteError: for a loss or gradient that is not finite, where `is_spike` is None; on every rank, and
                before the optimizer has stepped.
        """
        self._deepspeed.train()
        held = [[*self.objective.num_targets(batch), self.objective.num_tokens(batch)] for batch in micro_batches]
        counted = self._summed(torch.tensor([*(sum(counts) for counts in zip(*held, strict=True)), stop]))
        learning_rate = self._set_learning_rate(step)
        own, spike = torch.zeros(1, dtype=torch.float64, device=self.device), False
        for index, batch in enumerate(micro_batches):
            is_last = index + 1 == len(micro_batches)
            sums = self._deepspeed(batch.to(self.device))
            loss: Tensor = (sums / counted.tensor()[: len(sums)].float().clamp(min=1)).sum()
            own += loss.detach()
            if is_last:
                summed = self._summed(own)
                spike = is_spike is not None and is_spike(*summed.values())
            # DeepSpeed averages gradients over ranks; the division by accumulation steps is left out. A gradient that
            # is not finite makes it discard the whole step, those of earlier micro batches included.
            self._deepspeed.backward(loss * (math.nan if spike else self.world_size), scale_wrt_gas=False)
            if not is_last:
                self._deepspeed.step()
        # Until here nothing waited for what other ranks count: the gradients themselves are what they meet for.
        (total,) = summed.values()
        self._check_finite(step, "loss", total, is_spike)
        *num_targets, num_tokens, num_stopping = map(int, counted.values())
        grad_norm = self._update()
        skipped: Literal["spike", "overflow"] | None = None
        if not math.isfinite(grad_norm):
            skipped = "overflow" if self.precision == "fp16" and not spike else "spike"
            if skipped == "spike":
                self._check_finite(step, "gradient norm", grad_norm, is_spike)
        return StepResult(
            total, grad_norm, learning_rate, num_tokens, tuple(num_targets), num_stopping > 0, skipped, self.loss_scale
        )

    def _update(self) -> float:
        """Steps the optimizer, unless the gradient's norm is not finite; returns the norm, before clipping."""
        if self.settings.zero_stage > 0:
            self._deepspeed.step()  # finds it before anything is changed
            return float(self._deepspeed.get_global_grad_norm())
        grad_norm = nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        if math.isfinite(grad_norm):
            nn.utils.clip_grads_with_norm_(self.model.parameters(), self.settings.optimizer.max_grad_norm, grad_norm)
        else:
            self.model.zero_grad(set_to_none=True)  # AdamW leaves alone what has no gradient
        self._deepspeed.step()
        return float(grad_norm)

    def _check_finite(self, step: int, what: str, value: float, is_spike: Callable[[float], bool] | None) -> None:
        if is_spike is None and not math.isfinite(value):
            raise NonFiniteError(
                f"step {step + 1}: the {what} is {value}; the optimizer has not stepped, the newest checkpoint is "
                f"good. Lower train.optimizer.learning_rate ({self.settings.optimizer.learning_rate}), look at the "
                "rows, or set train.spikes to pass over such steps"
            )

    @property
    def loss_scale(self) -> float | None:
        """What fp16's losses are multiplied by; None in other precisions."""
        return float(self.zero_optimizer.loss_scale) if self.precision == "fp16" else None

    @contextmanager
    def evaluating(self) -> Iterator[nn.Module]:
        """The model in evaluation mode, without gradients."""
        self._deepspeed.eval()
        try:
            with torch.no_grad():
                yield self.model
        finally:
            self.let_go()
            self._deepspeed.train()

    def measure(self, batch: Any, measure: Measure) -> list[float]:
        """What a function of the model and a batch gives on this rank, a tensor [n]; within `evaluating`."""
        measured: list[float] = self._deepspeed(batch.to(self.device), measure).tolist()
        return measured

    def sum_over_ranks(self, values: Sequence[float]) -> list[float]:
        """Sums of the values over all ranks, in double precision. A collective."""
        return self._summed(torch.tensor(values, dtype=torch.float64)).values()

    def _summed(self, values: Tensor) -> Summed:
        return Summed(values, self.device)

    def let_go(self) -> None:
        """ZeRO-3 gives back what the last pass has gathered, or fetches for a backward pass that never comes.

        In flight it could not be gathered for `whole`. A collective.
        """
        if self.settings.zero_stage == 3:
            self.zero_optimizer.empty_partition_cache()

    @contextmanager
    def whole(self, parameter: nn.Parameter) -> Iterator[Tensor]:
        """A parameter with all its elements, on every rank; after `let_go`. A collective at ZeRO-3."""
        sharded = self.settings.zero_stage == 3
        with deepspeed.zero.GatheredParameters([parameter], modifier_rank=None, enabled=sharded):
            yield parameter

    def _set_learning_rate(self, step: int) -> float:
        factor = learning_rate_factor(self.settings.schedule, step, self.num_steps)
        learning_rate = self.settings.optimizer.learning_rate * factor
        for group in self.zero_optimizer.param_groups:
            group["lr"] = learning_rate * group["learning_rate_factor"]
        return learning_rate
