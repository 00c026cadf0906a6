"""What is learnt from a labelled set."""

from typing import Any, Literal

from pydantic import model_validator

from llmcore.config.base import Section, identity
from llmcore.config.judging import check_split

__all__ = ["KINDS", "TaskSettings"]

KINDS = (
    "text_classification",
    "question_answering",
    "translation",
    "summarization",
    "chat",
    "code_generation",
    "text_generation",
)
"""Tasks that come with the package; any other `kind` is a class of the user's own, as `module:Class`."""


class TaskSettings(Section):
    """What is learnt from the labelled set, and how its rows are read."""

    kind: str = identity(
        "text_classification",
        description=f"The task: {', '.join(KINDS)}; or one of your own, as `module:Class`, or by the name of an entry "
        "point in the group `llmcore.tasks`.",
    )
    max_tokens: int = identity(64, ge=4, description="Longest example; what is longer is cut (counted).")
    validation_metric: str | None = identity(
        None, description="Metric by which trials are compared and the best export is chosen. Null: the task's own."
    )
    class_weights: Literal["balanced"] | dict[str, float] | None = identity(
        None,
        description="Classification: what a row of each label weighs in the loss, by name; `balanced`: as the label "
        "is rare in train.",
    )
    prompt: str | None = identity(
        None,
        description="What stands before the answer, as a template of columns, `{source}` and the like. Null: the "
        "task's own.",
    )
    answer: Literal["head", "text"] | None = identity(
        None,
        description="Classification: by a head, or as `text`: a decoder or encoder-decoder writes the label's name. "
        "Null: by a head.",
    )
    max_answer_tokens: int | None = identity(
        None, ge=1, description="Longest answer that is learnt, end included. Null: half of `max_tokens`."
    )
    stride: int | None = identity(
        None, ge=1, description="Question answering: tokens that neighbouring windows share. Null: a quarter."
    )
    answerless_windows: int | None = identity(
        None,
        ge=0,
        description="Question answering: windows without the answer that are learnt of each question, drawn by its id. "
        "Null: all; of a long context they are many.",
    )
    options: dict[str, Any] = identity(dict, description="What a task of your own reads besides.")

    @model_validator(mode="after")
    def _validates_on_validation(self) -> "TaskSettings":
        check_split([self.validation_metric] if self.validation_metric else [])
        return self

    @model_validator(mode="after")
    def _answers_fit(self) -> "TaskSettings":
        if self.max_answer_tokens is not None and self.max_answer_tokens >= self.max_tokens:
            raise ValueError(
                f"task.max_answer_tokens={self.max_answer_tokens} leaves nothing of task.max_tokens={self.max_tokens} "
                "for the prompt: lower it, or raise max_tokens"
            )
        return self
