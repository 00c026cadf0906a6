"""A document told in short."""

from dataclasses import dataclass
from typing import ClassVar

from llmcore.tasks.columns import KINDS, SetKind
from llmcore.tasks.text_to_text import TextToText

__all__ = ["Summarization"]


@dataclass(frozen=True)
class Summarization(TextToText):
    """The document is read, as far as it fits, and the summary written; judged by ROUGE."""

    kind: ClassVar[str] = "summarization"
    set_kind: ClassVar[SetKind] = KINDS[kind]
    answer_column: ClassVar[str] = "summary"
    default_prompt: ClassVar[str] = "{document}\n\nSummary:\n"
    metrics: ClassVar[tuple[str, ...]] = ("rouge1", "rouge2", "rougeL")
    pipeline_tag: ClassVar[str] = "summarization"
