"""Programs written to a description, and judged by running their tests."""

from dataclasses import dataclass
from typing import ClassVar

from llmcore.tasks.columns import KINDS, SetKind
from llmcore.tasks.text_to_text import TextToText

__all__ = ["CodeGeneration"]


@dataclass(frozen=True)
class CodeGeneration(TextToText):
    """The description is read, and with it the first test where the prompt names `tests`; the solution is written.

    Judged by pass@k: what is written runs, with the row's tests, in the sandbox.
    """

    kind: ClassVar[str] = "code_generation"
    set_kind: ClassVar[SetKind] = KINDS[kind]
    answer_column: ClassVar[str] = "solution"
    default_prompt: ClassVar[str] = "{prompt}\n"
    metrics: ClassVar[tuple[str, ...]] = ("pass_at_1",)
