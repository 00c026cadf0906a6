"""How a model is optimized: shared by pre-training and fine-tuning."""

from typing import Any, Literal

from pydantic import model_validator

from llmcore.config.base import Section, flagged, free, identity
from llmcore.config.common import WorkerSettings

__all__ = ["OptimizerSettings", "ScheduleSettings", "TrainSettings", "check_shares"]

_DERIVED = {
    "train_batch_size": "global_batch_size",
    "train_micro_batch_size_per_gpu": "micro_batch_size",
    "gradient_accumulation_steps": "global_batch_size, micro_batch_size and the number of workers",
    "gradient_clipping": "optimizer.max_grad_norm",
    "optimizer": "optimizer",
    "scheduler": "schedule",
    "bf16": "precision",
    "fp16": "precision",
    "zero_optimization.stage": "zero_stage",
}
"""Keys of DeepSpeed's JSON that this section decides, and by which of its own."""


class OptimizerSettings(Section):
    """AdamW."""

    learning_rate: float = identity(1e-3, gt=0, description="Peak learning rate.")
    head_learning_rate_factor: float = identity(
        1.0,
        gt=0,
        description="Learning rate of a head that stands on a pre-trained model, as a multiple of the others'. What a "
        "language model says of a text's last token differs little from text to text: at 1 a new head learns slowly.",
    )
    betas: tuple[float, float] = identity((0.9, 0.95), description="AdamW's two decay rates.")
    epsilon: float = identity(1e-8, gt=0, description="AdamW's epsilon.")
    weight_decay: float = identity(0.1, ge=0, description="Decoupled weight decay of matrices; vectors have none.")
    max_grad_norm: float = identity(1.0, gt=0, description="Gradients are clipped to this global norm.")


class ScheduleSettings(Section):
    """Learning rate over steps: linear warm-up, then decay."""

    kind: Literal["cosine", "linear", "constant", "stable_decay"] = identity(
        "cosine",
        description="Shape after the warm-up; `stable_decay` stays at the peak and decays at the end (WSD), so that a "
        "run of another length has the same rates until then.",
    )
    decay_fraction: float = identity(
        0.2, gt=0, le=1, description="Share of the steps, the last ones, in which `stable_decay` decays."
    )
    warmup_fraction: float = identity(0.05, ge=0, lt=1, description="Share of the steps spent warming up.")
    final_fraction: float = identity(0.1, ge=0, le=1, description="Learning rate at the end, as a share of the peak.")


class TrainSettings(Section):
    """The optimization of one run."""

    seed: int = identity(0, ge=0, description="Seed of initial weights, data order and dropout.")
    num_steps: int | None = identity(None, ge=1, description="Optimizer steps; or give `num_epochs`.")
    num_epochs: float | None = identity(None, gt=0, description="Passes over the train split; or give `num_steps`.")
    stop_after: int | None = identity(
        None, ge=1, description="Stop after so many steps, on the schedule of the whole run. Null: go to its end."
    )
    global_batch_size: int = identity(16, ge=1, description="Rows in one optimizer step, over all workers.")
    micro_batch_size: int = free(8, ge=1, description="Rows a worker takes through the model at once, at most.")
    optimizer: OptimizerSettings = identity(OptimizerSettings, description="AdamW.")
    schedule: ScheduleSettings = identity(ScheduleSettings, description="Learning rate over steps.")
    precision: Literal["auto", "fp32", "bf16"] = flagged(
        "auto", description="`auto` is bf16 where every worker's hardware multiplies it natively, else fp32."
    )
    zero_stage: Literal[0, 1, 2, 3] = flagged(2, description="DeepSpeed ZeRO stage.")
    log_every: int = free(10, ge=1, description="Steps between logged rows.")
    validate_every: int | None = free(None, ge=1, description="Steps between validations; null: at the end only.")
    checkpoint_every: int | None = free(None, ge=1, description="Steps between checkpoints; null: at the end only.")
    keep_checkpoints: int = free(2, ge=1, description="Complete checkpoints kept, the newest ones.")
    keep_best: bool = free(
        False, description="Keep the best checkpoint too, of those at whose step there was a validation."
    )
    keep_every: int | None = free(None, ge=1, description="Keep checkpoints at multiples of so many steps for good.")
    deepspeed: dict[str, Any] = flagged(
        dict, description="Anything else for DeepSpeed; a key that contradicts a derived one is an error."
    )

    @model_validator(mode="after")
    def _one_length(self) -> "TrainSettings":
        if (self.num_steps is None) == (self.num_epochs is None):
            raise ValueError("give exactly one of `num_steps` and `num_epochs`")
        return self

    @model_validator(mode="after")
    def _deepspeed_contradicts_nothing(self) -> "TrainSettings":
        zero = self.deepspeed.get("zero_optimization", {})
        if not isinstance(zero, dict):
            raise ValueError(f"deepspeed.zero_optimization={zero!r} is no mapping")
        given = set(self.deepspeed) | {f"zero_optimization.{key}" for key in zero}
        for key in sorted(given & set(_DERIVED)):
            raise ValueError(f"deepspeed.{key} is derived from {_DERIVED[key]}: set that, and leave this out")
        return self

    @model_validator(mode="after")
    def _bf16_needs_a_sharded_master(self) -> "TrainSettings":
        if self.precision == "bf16" and self.zero_stage == 0:
            # Seen in 0.19.8: an optimizer step at initialization decays the weights and leaves Adam one ahead.
            raise ValueError("precision=bf16 with zero_stage=0 trains wrongly in DeepSpeed: use zero_stage=1")
        return self


def check_shares(train: TrainSettings, workers: WorkerSettings) -> None:
    """Raises ValueError where a worker would have no row of a global batch."""
    if train.global_batch_size < workers.num_workers:
        raise ValueError(
            f"train.global_batch_size={train.global_batch_size} is smaller than workers.num_workers="
            f"{workers.num_workers}: a worker would have no row; raise it, or use fewer workers"
        )
