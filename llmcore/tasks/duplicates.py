"""When the inputs of two rows are the same: exactly, or in their words, case and punctuation aside."""

import hashlib
import re
from functools import lru_cache
from typing import Any

from llmcore.storage import canonical_json

__all__ = ["digest_of", "words_of"]

_ASIDE = re.compile(r"[\s.,;:!?…\"'“”„«»()\u2018\u2019]+")
"""Blanks and the punctuation of sentences; signs that change what is said (`+`, `-`, `%`) are words."""


def words_of(value: Any) -> Any:
    """The words of a text, or of all texts in a list or mapping; a text without any is left as it is."""
    if isinstance(value, str):
        return _words_of_text(value)
    if isinstance(value, list):
        return list(map(words_of, value))
    return {key: words_of(one) for key, one in value.items()} if isinstance(value, dict) else value


@lru_cache(maxsize=16)  # a context stands in one row after the other
def _words_of_text(text: str) -> str:
    return _ASIDE.sub(" ", text.casefold()).strip() or text


def digest_of(value: Any) -> bytes:
    """16 bytes that no other value of plain JSON has."""
    return hashlib.blake2b(canonical_json(value), digest_size=16).digest()
