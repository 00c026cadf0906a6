"""Text that goes on as its author would: a style, a form, a voice."""

from dataclasses import dataclass
from typing import ClassVar

from llmcore.tasks.columns import KINDS, SetKind
from llmcore.tasks.text_to_text import TextToText

__all__ = ["TextGeneration"]


@dataclass(frozen=True)
class TextGeneration(TextToText):
    """The prompt, which may be empty, is read, and the completion written; judged by how likely the true one is."""

    kind: ClassVar[str] = "text_generation"
    set_kind: ClassVar[SetKind] = KINDS[kind]
    answer_column: ClassVar[str] = "completion"
    default_prompt: ClassVar[str] = "{prompt}"
    metrics: ClassVar[tuple[str, ...]] = ("perplexity", "bits_per_byte")
