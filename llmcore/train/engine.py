"""DeepSpeed behind the few things the loop needs. The only file that imports it."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import deepspeed
import torch
from torch import Tensor, distributed, nn

from llmcore.config.train import OptimizerSettings, TrainSettings
from llmcore.errors import NonFiniteError
from llmcore.models.initialize import Home, whole_shape
from llmcore.models.memory import model_sizes
from llmcore.models.packed import backbone
from llmcore.objectives.base import Objective
from llmcore.train.deepspeed_config import deepspeed_config
from llmcore.train.precision import Precision
from llmcore.train.schedule import learning_rate_factor

__all__ = ["Engine", "StepResult", "parameter_home"]


@dataclass(frozen=True)
class StepResult:
    """One optimizer step, over all ranks."""

    loss: float
    grad_norm: float
    learning_rate: float
    num_tokens: int
    num_targets: tuple[int, ...]
    stop: bool
    """Whether a rank was asked to stop: the same on all."""


Measure = Callable[[nn.Module, Any], Tensor]


_NUMBER_FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def parameter_home(settings: TrainSettings, precision: Precision, device: torch.device) -> Home | None:
    """Where a model's parameters live as soon as they are made: at ZeRO-3 a share of each on each rank.

    None at other stages: they stay whole. A collective for each parameter.
    """
    if settings.zero_stage < 3:
        return None

    def home(model: nn.Module) -> Callable[[nn.Parameter], None]:
        config = deepspeed_config(
            settings,
            precision=precision,
            world_size=distributed.get_world_size(),
            sizes=model_sizes(model),
            on_gpu=device.type == "cuda",
        )
        # DeepSpeed would do so itself, after it has looked at the world size, which would be 1.
        deepspeed.init_distributed(dist_init_required=False)
        # Given a module, it also exchanges `linear` for one that keeps no gathered weight for the backward pass.
        number_format = _NUMBER_FORMATS[precision]
        sharding = deepspeed.zero.Init(nn.Module(), config_dict_or_path=config, dtype=number_format)

        def share(parameter: nn.Parameter) -> None:
            parameter.data = parameter.data.to(device, number_format)
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


def _parameter_groups(model: nn.Module, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """Matrices decay, vectors (biases, norms) do not; a head has its own learning rate; no group is empty."""
    body = {id(parameter) for parameter in backbone(model).parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            factor = 1.0 if id(parameter) in body else settings.head_learning_rate_factor
            decay = settings.weight_decay if len(whole_shape(parameter)) >= 2 else 0.0
            groups.setdefault((factor, decay), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "learning_rate_factor": factor}
        for (factor, decay), parameters in groups.items()
    ]


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
        optimizer = settings.optimizer
        self._deepspeed, *_ = deepspeed.initialize(
            model=_LossModule(model.to(device), objective),
            optimizer=torch.optim.AdamW(
                _parameter_groups(model, optimizer),
                lr=optimizer.learning_rate,
                betas=optimizer.betas,
                eps=optimizer.epsilon,
                fused=True,
            ),
            config=deepspeed_config(
                settings,
                precision=precision,
                world_size=self.world_size,
                sizes=self.sizes,
                on_gpu=device.type == "cuda",
            ),
            dist_init_required=False,
        )

    @property
    def num_parameters(self) -> int:
        """Of the model, tied ones once."""
        return self.sizes.num_parameters

    @property
    def model(self) -> nn.Module:
        """The model itself."""
        return self._deepspeed.module.model  # type: ignore[no-any-return]

    @property
    def zero_optimizer(self) -> Any:
        """DeepSpeed's optimizer, whose private state checkpoints read and write."""
        return self._deepspeed.optimizer

    def step(self, step: int, micro_batches: Sequence[Any], *, stop: bool = False) -> StepResult:
        """One optimizer step on this rank's micro batches of a global batch. A collective.

        Each part of the loss is the sum over its targets in the global batch divided by their number, whatever each
        rank holds.

        Raises:
            NonFiniteError: before the optimizer has stepped, on every rank.
        """
        self._deepspeed.train()
        held = [[*self.objective.num_targets(batch), self.objective.num_tokens(batch)] for batch in micro_batches]
        counts = [sum(counts) for counts in zip(*held, strict=True)]
        *num_targets, num_tokens, num_stopping = map(int, self.sum_over_ranks([*counts, stop]))
        parts = torch.tensor(num_targets, dtype=torch.float32, device=self.device).clamp(min=1)
        learning_rate = self._set_learning_rate(step)
        own = 0.0
        for batch in micro_batches:
            loss: Tensor = (self._deepspeed(batch.to(self.device)) / parts).sum()
            own += loss.item()
            # DeepSpeed averages gradients over ranks; the division by accumulation steps is left out.
            self._deepspeed.backward(loss * self.world_size, scale_wrt_gas=False)
            if not self._deepspeed.is_gradient_accumulation_boundary():
                self._deepspeed.step()
        (total,) = self.sum_over_ranks([own])
        if not math.isfinite(total):
            raise NonFiniteError(
                f"step {step + 1}: the loss is {total}; the optimizer has not stepped, the newest checkpoint is good. "
                f"Lower train.optimizer.learning_rate ({self.settings.optimizer.learning_rate}) or look at the rows"
            )
        self._deepspeed.step()
        grad_norm = float(self._deepspeed.get_global_grad_norm() or 0.0)
        return StepResult(total, grad_norm, learning_rate, num_tokens, tuple(num_targets), num_stopping > 0)

    @contextmanager
    def evaluating(self) -> Iterator[nn.Module]:
        """The model in evaluation mode, without gradients."""
        self._deepspeed.eval()
        try:
            with torch.no_grad():
                yield self.model
        finally:
            # At ZeRO-3 some parameters are on their way for a backward pass that never comes; in flight they cannot be
            # gathered, and an export would fail.
            self._deepspeed.empty_partition_cache()
            self._deepspeed.train()

    def measure(self, batch: Any, measure: Measure) -> list[float]:
        """What a function of the model and a batch gives on this rank, a tensor [n]; within `evaluating`."""
        measured: list[float] = self._deepspeed(batch.to(self.device), measure).tolist()
        return measured

    def sum_over_ranks(self, values: Sequence[float]) -> list[float]:
        """Sums of the values over all ranks, in double precision. A collective."""
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return total.tolist()

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Where `whole` may be asked for: ZeRO-3 lets go of what the last pass fetched ahead. A collective."""
        sharded = self.settings.zero_stage == 3
        if sharded:
            self.zero_optimizer.checkpoint_event_prologue()
        yield
        if sharded:
            self.zero_optimizer.checkpoint_event_epilogue()

    @contextmanager
    def whole(self, parameter: nn.Parameter) -> Iterator[Tensor]:
        """A parameter with all its elements, on every rank; within `at_rest`. A collective at ZeRO-3."""
        sharded = self.settings.zero_stage == 3
        with deepspeed.zero.GatheredParameters([parameter], modifier_rank=None, enabled=sharded):
            yield parameter

    def _set_learning_rate(self, step: int) -> float:
        factor = learning_rate_factor(self.settings.schedule, step, self.num_steps)
        learning_rate = self.settings.optimizer.learning_rate * factor
        for group in self.zero_optimizer.param_groups:
            group["lr"] = learning_rate * group["learning_rate_factor"]
        return learning_rate
