"""Tasks of lm-evaluation-harness, which judge models beside our own metrics."""

from pydantic import model_validator

from llmcore.config.base import Section, free, identity
from llmcore.config.common import Name

__all__ = ["HarnessSettings"]


class HarnessSettings(Section):
    """What lm-evaluation-harness asks each model that writes; it needs the extra `lm-eval`."""

    tasks: list[str] = identity(
        min_length=1, description="Names of its tasks, groups and tags, or of your own below `include_path`."
    )
    num_fewshot: int | None = identity(
        None,
        ge=0,
        description="Examples that stand before each question. Null: as the task says, and one that says 0 keeps it.",
    )
    limit: int | None = identity(None, ge=1, description="Rows of each task that are asked, the first ones; null: all.")
    include_path: str | None = identity(
        None,
        description="A folder, which all nodes see, of task files (YAML) of your own. Files of data that they name by "
        "a relative path are looked for there.",
    )
    chat_template: bool = identity(
        False, description="Ask in messages, as the tokenizer's chat template writes them; the model must have one."
    )
    models: dict[Name, str] = identity(
        dict,
        description="Further models, by what they are called here, that the harness alone asks: a run that has ended "
        "(a `pretrain` run, say), a published model's URL, a Hugging Face folder, or `owner/name` of the hub.",
    )
    batch_size: int = free(8, ge=1, description="Requests that a model has at once.")

    @model_validator(mode="after")
    def _each_task_once(self) -> "HarnessSettings":
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"tasks={self.tasks} names one twice")
        return self
