"""The quality filters of Gopher, C4 and FineWeb: datatrove's, with words and sentences found by one pattern each."""

import re
from abc import ABC
from collections import Counter
from typing import Any, ClassVar

from llmcore.config.base import Section
from llmcore.corpus.cleaning.base import Draft, Step, optional

__all__ = ["C4", "FineWeb", "Gopher", "GopherRepetition", "word_splitter"]

_WORD = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]+")
_SENTENCE = re.compile(r".+?(?:[.!?…]+[\"'\u201d\u2019)\]]*(?=\s|$)|$)", re.DOTALL)


class _Filter(Step, ABC):
    """A filter of datatrove as a step."""

    module: ClassVar[str]
    filter: ClassVar[str]
    version = 1

    def __init__(self, settings: Section) -> None:
        found = getattr(optional(f"datatrove.pipeline.filters.{self.module}", self.name), self.filter)
        self._document = optional("datatrove.data", self.name).Document
        self._filter = found(**settings.model_dump(), language=word_splitter(self.name))

    def __call__(self, draft: Draft, found: Counter[str]) -> str | None:
        """Reasons are datatrove's, without the filter's name."""
        if not draft.text.strip():
            return "empty"
        document = self._document(text=draft.text, id="")
        kept = self._filter.filter(document)
        if isinstance(kept, tuple):
            return str(kept[1]).removeprefix("gopher_")
        found["changed"] += document.text != draft.text
        draft.text = document.text
        return None


class GopherRepetition(_Filter):
    """Drops documents that repeat themselves."""

    name = "gopher_repetition"
    module, filter = "gopher_repetition_filter", "GopherRepetitionFilter"


class Gopher(_Filter):
    """Drops documents that do not look like prose."""

    name = "gopher"
    module, filter = "gopher_quality_filter", "GopherQualityFilter"


class C4(_Filter):
    """Drops lines that are no sentences, and documents that have few."""

    name = "c4"
    module, filter = "c4_filters", "C4QualityFilter"


class FineWeb(_Filter):
    """Drops documents that look like lists."""

    name = "fineweb"
    module, filter = "fineweb_quality_filter", "FineWebQualityFilter"


def word_splitter(step: str) -> Any:
    """Words and sentences for datatrove, which would have spaCy make them at a tenth of the speed.

    A word is letters and digits, with apostrophes inside; any other mark is a word of its own.
    """
    library = optional("datatrove.utils.word_tokenizers", step)

    class Splitter(library.WordTokenizer):  # type: ignore[misc,name-defined]  # known where it is installed alone
        def word_tokenize(self, text: str) -> list[str]:
            return _WORD.findall(text)

        def sent_tokenize(self, text: str) -> list[str]:
            return [found for start, end in self.span_tokenize(text) if (found := text[start:end].strip())]

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [found.span() for found in _SENTENCE.finditer(text)]

    return Splitter()
