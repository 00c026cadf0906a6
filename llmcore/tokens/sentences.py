"""Where sentences end, by punctuation alone: no language is asked for, and no model is loaded."""

import re

__all__ = ["sentences"]

_STOPS = r"[.!?\u2026\u0964\u0965\u061f\u06d4\u0589\u1362\u104b\u17d4]"
"""Full stops that a blank follows, in scripts of Europe, India, Arabia, Armenia, Ethiopia, Burma and Cambodia."""
_WIDE_STOPS = r"[\u3002\uff01\uff1f\uff61]"
"""Of Chinese and Japanese, which have no blanks."""
_END = re.compile(
    rf"{_STOPS}+[\"'\u201d\u2019\u00bb)\]*_]*(?=\s+(\S))"  # with the quotation marks and brackets that close after it
    rf"|{_WIDE_STOPS}+[\u300d\u300f\u201d\u2019\uff09]*"
    r"|(?=\n[^\S\n]*\n)"  # the end of a paragraph
)

_ABBREVIATION = len("Mrs.")
_LONGEST_WORD = 2 * _ABBREVIATION
"""Characters looked at for a word that short, with what opens before it."""


def sentences(text: str) -> list[str]:
    """The sentences of a text, in order; joined they are the text, each with the blanks before it.

    A sentence ends with its full stop, unless that seems to be one of an abbreviation: the text goes on in lower case
    ("e.g. this"), or a capitalized word of three letters at most is before it ("Mr. Smith"). And it ends where a
    paragraph does. Where that is wrong, two sentences are one, or one is two: runs of sentences are not hurt.
    """
    found, start = [], 0
    for end in _END.finditer(text):
        sentence = text[start : end.end()]
        following = end.group(1)
        if sentence.strip() and not (following and (following.islower() or _is_abbreviated(sentence))):
            found.append(sentence)
            start = end.end()
    if start < len(text):
        found.append(text[start:])
    return found


def _is_abbreviated(sentence: str) -> bool:
    word = sentence[-_LONGEST_WORD:].rsplit(maxsplit=1)[-1].lstrip("\"'(\u201c\u2018\u00ab")
    return len(word) <= _ABBREVIATION and word.endswith(".") and word[0].isupper()
