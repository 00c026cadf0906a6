"""One language's text, written in another's."""

from dataclasses import dataclass
from typing import ClassVar

from llmcore.tasks.text_to_text import TextToText

__all__ = ["Translation"]


@dataclass(frozen=True)
class Translation(TextToText):
    """The source is read, the target written; judged by BLEU and chrF (sacrebleu)."""

    kind: ClassVar[str] = "translation"
    columns: ClassVar[tuple[str, ...]] = ("source", "target")
    answer_column: ClassVar[str] = "target"
    default_prompt: ClassVar[str] = "{source}\n"
    metrics: ClassVar[tuple[str, ...]] = ("bleu", "chrf")
