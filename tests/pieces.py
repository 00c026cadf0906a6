"""A tokenizer made up for tests of where answers end."""

from typing import Any

from llmcore.models.generation.endings import Endings

__all__ = ["Pieces", "endings"]


class Pieces:
    """A tokenizer whose entries may be anything; 0 ends a text, and 9 is another special token."""

    all_special_tokens = ("<end>", "<turn>")
    entries = ("<end>", "a", "b", "ab", "ba", "aba", " ", "b a", "é", "<turn>")

    def decode(self, tokens: list[int], *, skip_special_tokens: bool, **_: Any) -> str:
        return "".join(self.entries[token] for token in tokens if not (skip_special_tokens and token in (0, 9)))


def endings(*stops: str) -> Endings:
    """What ends answers in these tokens."""
    return Endings(Pieces(), frozenset({0}), stops)
