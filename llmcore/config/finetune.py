"""`finetune`: a pre-trained model, specialized on a labelled set."""

from typing import Literal

from pydantic import model_validator

from llmcore.config.base import Section, free, identity
from llmcore.config.common import ModelJobSettings, WorkerSettings
from llmcore.config.fairness import FairnessSettings
from llmcore.config.labelled import DataReference
from llmcore.config.method import MethodSettings
from llmcore.config.task import TaskSettings
from llmcore.config.train import StepSettings, TrainSettings, check_shares

__all__ = ["FinetuneConfig", "FinetuneSettings", "check_method"]


class FinetuneSettings(Section):
    """What one fine-tuning does; the same section stands in a search."""

    task: TaskSettings = identity(TaskSettings, description="The task.")
    weights: Literal["pretrained", "random"] = identity(
        "pretrained", description="Start from the base model's weights, or from its architecture alone."
    )
    method: MethodSettings = identity(MethodSettings, description="How much of the model trains.")
    fairness: FairnessSettings | None = identity(
        None,
        description="What is done so that predictions do not hang on who a text is about (docs/bias.md). Null: "
        "nothing.",
    )
    train: TrainSettings = identity(description="The optimization.")
    workers: WorkerSettings = free(WorkerSettings, description="The Ray Train workers.")

    @model_validator(mode="after")
    def _each_worker_has_a_row(self) -> "FinetuneSettings":
        check_shares(self.train, self.workers)
        return self

    @model_validator(mode="after")
    def _fairness_suits_the_task(self) -> "FinetuneSettings":
        if self.fairness is not None:
            self.fairness.check_task(self.task)
        return self

    @model_validator(mode="after")
    def _the_optimizer_suits_the_method(self) -> "FinetuneSettings":
        check_method(self.method, self.train)
        return self


class FinetuneConfig(ModelJobSettings, FinetuneSettings):
    """`python -m jobs finetune`."""

    base: str = identity(
        description="The base model: a run's name or URL, a Hugging Face folder, `owner/name` of the hub, or a folder "
        "with a checkpoint of DeepSpeed's engine."
    )
    data: DataReference = identity(
        description="`<prepare run>/<labelled set name>`, the URL of an evaluation set, or files to make one of."
    )


def check_method(method: MethodSettings, train: StepSettings) -> None:
    """Raises ValueError where an optimizer or a ZeRO stage cannot train what the method has trained."""
    if train.optimizer.kind == "muon" and method.name != "full":
        raise ValueError(
            f"train.optimizer.kind=muon is for the hidden matrices, and method.name={method.name} trains none of them: "
            "use adamw"
        )
    if method.name == "qlora" and train.zero_stage == 3:
        raise ValueError(
            "method.name=qlora with train.zero_stage=3: matrices of 4 bits are whole on each GPU; use "
            "zero_stage=2, or name=lora, whose base is shared out"
        )
