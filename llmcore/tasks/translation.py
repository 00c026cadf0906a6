"""One language's text, written in another's."""

from dataclasses import dataclass
from typing import ClassVar

from llmcore.tasks.columns import KINDS, SetKind
from llmcore.tasks.text_to_text import TextToText

__all__ = ["Translation"]


@dataclass(frozen=True)
class Translation(TextToText):
    """The source is read, the target written; judged by BLEU and chrF (sacrebleu)."""

    kind: ClassVar[str] = "translation"
    set_kind: ClassVar[SetKind] = KINDS[kind]
    answer_column: ClassVar[str] = "target"
    default_prompt: ClassVar[str] = "{source}\n"
    metrics: ClassVar[tuple[str, ...]] = ("bleu", "chrf")
    pipeline_tag: ClassVar[str] = "translation"
