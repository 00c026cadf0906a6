"""How a model is optimized: shared by pre-training and fine-tuning."""

from typing import Any, Literal

from pydantic import model_validator

from llmcore.config.base import Section, flagged, free, identity
from llmcore.config.common import WorkerSettings
from llmcore.config.early_stopping import EarlyStoppingSettings
from llmcore.config.offload import OffloadSettings
from llmcore.config.optimizer import OptimizerSettings, ScheduleSettings
from llmcore.config.spikes import SpikeSettings

__all__ = ["StepSettings", "TrainSettings", "check_shares"]

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
    "zero_optimization.offload_optimizer": "offload.optimizer",
    "zero_optimization.offload_param": "offload.parameters",
    "activation_checkpointing": "activation_checkpointing",
    "compile": "compile",
    "tensorboard": "trackers, and TensorBoard's files are always written",
    "wandb": "trackers",
}
"""Keys of DeepSpeed's JSON that this section decides, and by which of its own."""


class StepSettings(Section):
    """How the steps of a training are taken, however many there are."""

    seed: int = identity(0, ge=0, description="Seed of initial weights, data order and dropout.")
    global_batch_size: int = identity(16, ge=1, description="Rows in one optimizer step, over all workers.")
    micro_batch_size: int = free(8, ge=1, description="Rows a worker takes through the model at once, at most.")
    optimizer: OptimizerSettings = identity(OptimizerSettings, description="AdamW.")
    schedule: ScheduleSettings = identity(ScheduleSettings, description="Learning rate over steps.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = flagged(
        "auto",
        description="`auto` is bf16 where every worker's hardware multiplies it natively, else fp32; fp16 scales the "
        "loss dynamically and needs GPUs.",
    )
    zero_stage: Literal[0, 1, 2, 3] = flagged(2, description="DeepSpeed ZeRO stage.")
    offload: OffloadSettings = flagged(OffloadSettings, description="What ZeRO keeps outside of the device.")
    activation_checkpointing: bool = free(
        False, description="Compute each layer's activations anew in the backward pass: less memory, a third slower."
    )
    compile: bool = flagged(False, description="Compile the layers with `torch.compile`: slow to start, faster steps.")
    dry_step: bool | Literal["auto"] = free(
        "auto",
        description="Whether the longest batch runs forward and backward once before the first step, so that too "
        "little memory shows at once; `auto` does so on GPUs.",
    )
    peak_flops_per_s: float | None = free(
        None, gt=0, description="A device's peak, for model FLOPs utilization. Null: the data sheet's, where known."
    )
    log_every: int = free(10, ge=1, description="Steps between logged rows.")
    deepspeed: dict[str, Any] = flagged(
        dict, description="Anything else for DeepSpeed; a key that contradicts a derived one is an error."
    )

    @model_validator(mode="after")
    def _deepspeed_contradicts_nothing(self) -> "StepSettings":
        zero = self.deepspeed.get("zero_optimization", {})
        if not isinstance(zero, dict):
            raise ValueError(f"deepspeed.zero_optimization={zero!r} is no mapping")
        given = set(self.deepspeed) | {f"zero_optimization.{key}" for key in zero}
        for key in sorted(given & set(_DERIVED)):
            raise ValueError(f"deepspeed.{key} is derived from {_DERIVED[key]}: set that, and leave this out")
        return self

    @model_validator(mode="after")
    def _the_stage_allows_it(self) -> "StepSettings":
        if self.precision in ("bf16", "fp16") and self.zero_stage == 0:
            # Seen in 0.19.8: an optimizer step at initialization decays the weights and leaves Adam one ahead.
            raise ValueError(
                f"precision={self.precision} with zero_stage=0 trains wrongly in DeepSpeed: use zero_stage=1"
            )
        if self.optimizer.kind == "muon" and self.zero_stage == 0:
            raise ValueError("optimizer.kind=muon is DeepSpeed's, which shards it: use zero_stage=1, 2 or 3")
        if self.optimizer.kind == "muon" and self.optimizer.layer_learning_rate_decay != 1.0:
            raise ValueError(
                f"optimizer.layer_learning_rate_decay={self.optimizer.layer_learning_rate_decay} is for adamw; Muon's "
                "matrices have one learning rate"
            )
        if self.optimizer.kind == "muon" and self.offload.optimizer != "none":
            raise ValueError(
                f"optimizer.kind=muon with offload.optimizer={self.offload.optimizer}: checkpoints do not know where "
                "its momentum lies then; use adamw, or offload nothing"
            )
        self.offload.check_stage(self.zero_stage)
        self.offload.check_folder()
        return self


class TrainSettings(StepSettings):
    """The optimization of one run."""

    num_steps: int | None = flagged(
        None,
        ge=1,
        description="Optimizer steps; or give `num_epochs`. A run that is done goes on when it is given more.",
    )
    num_epochs: float | None = flagged(None, gt=0, description="Passes over the train split; or give `num_steps`.")
    stop_after: int | None = flagged(
        None, ge=1, description="Stop after so many steps, on the schedule of the whole run. Null: go to its end."
    )
    spikes: SpikeSettings | None = flagged(
        None,
        description="What is done with a step whose loss jumps. Null: nothing, and one not finite ends the run.",
    )
    trackers: list[Literal["wandb", "mlflow"]] = free(
        list, description="Where metrics are sent besides the run's folder and its TensorBoard files; each is an extra."
    )
    early_stopping: EarlyStoppingSettings | None = flagged(
        None, description="Ends a training that gains nothing more. Null: it goes to its last step."
    )
    validate_every: int | None = free(None, ge=1, description="Steps between validations; null: at the end only.")
    checkpoint_every: int | None = free(None, ge=1, description="Steps between checkpoints; null: at the end only.")
    keep_checkpoints: int = free(2, ge=1, description="Complete checkpoints kept, the newest ones.")
    keep_best: bool = free(
        False, description="Keep the best checkpoint too, of those at whose step there was a validation."
    )
    keep_every: int | None = free(None, ge=1, description="Keep checkpoints at multiples of so many steps for good.")

    @model_validator(mode="after")
    def _one_length(self) -> "TrainSettings":
        if (self.num_steps is None) == (self.num_epochs is None):
            raise ValueError("give exactly one of `num_steps` and `num_epochs`")
        return self

    @model_validator(mode="after")
    def _early_stopping_has_validations(self) -> "TrainSettings":
        if self.early_stopping is not None and self.validate_every is None:
            raise ValueError(
                "early_stopping judges validations, and with validate_every=null there is one, at the end: set it"
            )
        return self


def check_shares(train: StepSettings, workers: WorkerSettings) -> None:
    """Raises ValueError where a worker would have no row of a global batch."""
    if train.global_batch_size < workers.num_workers:
        raise ValueError(
            f"train.global_batch_size={train.global_batch_size} is smaller than workers.num_workers="
            f"{workers.num_workers}: a worker would have no row; raise it, or use fewer workers"
        )
