"""The steps that look at characters: Unicode and length."""

import unicodedata
from collections import Counter

from llmcore.config.cleaning import LengthSettings, UnicodeSettings
from llmcore.corpus.cleaning.base import Draft, Step, optional

__all__ = ["LengthBounds", "UniformUnicode"]


class UniformUnicode(Step):
    """Repairs wrong decodings (ftfy), and brings text into a normal form."""

    name = "unicode"
    version = 1

    def __init__(self, settings: UnicodeSettings) -> None:
        self._form = settings.form
        self._repair = optional("ftfy", self.name) if settings.repair else None

    def __call__(self, draft: Draft, found: Counter[str]) -> None:
        """Never drops."""
        text = draft.text
        if self._repair is not None:
            repaired = self._repair.fix_text(text, normalization=None)
            found["repaired"] += repaired != text
            text = repaired
        if self._form is not None and not unicodedata.is_normalized(self._form, text):
            found["normalized"] += 1
            text = unicodedata.normalize(self._form, text)
        draft.text = text


class LengthBounds(Step):
    """Drops what is too short or too long."""

    name = "length"
    version = 1

    def __init__(self, settings: LengthSettings) -> None:
        self._min, self._max = settings.min_characters, settings.max_characters

    def __call__(self, draft: Draft, found: Counter[str]) -> str | None:
        """Reasons: `too_short`, `too_long`."""
        if len(draft.text) < self._min:
            return "too_short"
        return "too_long" if self._max is not None and len(draft.text) > self._max else None
