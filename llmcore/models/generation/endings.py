"""Where an answer ends, and why."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

__all__ = ["Ended", "Endings", "Reason"]

Reason = Literal["end", "stop", "length"]
"""The model ended it; a stop text came; or it had all its tokens."""

_MARGIN = 8
"""Tokens before those that a stop text may span: the first of a tail may be half a character."""


class Ended(NamedTuple):
    """An answer: its tokens up to what ended it, that included; its text without it; and why it ended."""

    tokens: list[int]
    text: str
    reason: Reason


@dataclass(frozen=True)
class Endings:
    """What ends an answer: tokens of the model's, and texts of the user's."""

    tokenizer: Any
    end_ids: frozenset[int]
    stops: tuple[str, ...]

    def cut(self, tokens: Sequence[int]) -> Ended:
        """The answer in what was generated, fill included.

        Tokens belong to it until one ends it, or until the first stop text is complete, wherever that is in a token.
        """
        end = next((place for place, token in enumerate(tokens) if token in self.end_ids), None)
        body = list(tokens[:end])
        if self._is_stopped(body):
            complete = bisect_left(range(len(body)), True, key=lambda last: self._is_stopped(body[: last + 1]))
            body = body[: complete + 1]
            return Ended(body, self._before_stop(body), "stop")
        text = self._decode(body)
        return Ended(body, text, "length") if end is None else Ended([*body, tokens[end]], text, "end")

    def stopped(self, start: int, tokens: Tensor) -> Tensor:
        """Whether a stop text stands behind the first `start` tokens: of [rows, length], bool [rows]."""
        answers = tokens[:, start:].tolist()
        tail = _MARGIN + max((len(stop.encode()) for stop in self.stops), default=0)
        # A stop text is in what the last tokens say, if in anything: all of a long answer is not decoded each time.
        found = [self._is_stopped(answer[-tail:]) and self._is_stopped(answer) for answer in answers]
        return torch.tensor(found, dtype=torch.bool, device=tokens.device)

    def ended(self, start: int, max_new_tokens: int, tokens: Tensor) -> Tensor:
        """Whether the last of the tokens [rows, length] ends its text, in whichever way: bool [rows]."""
        if tokens.shape[1] - start >= max_new_tokens:
            return torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)
        ended = torch.isin(tokens[:, -1], torch.tensor(sorted(self.end_ids), device=tokens.device))
        return ended | self.stopped(start, tokens) if self.stops else ended

    def _decode(self, tokens: Sequence[int], *, special: bool = False) -> str:
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=not special, clean_up_tokenization_spaces=False)
        return text

    def _is_stopped(self, tokens: Sequence[int]) -> bool:
        """Whether a stop text stands in what tokens say, special ones written out, or in what is shown of them."""
        return any(self._has_stop(self._decode(tokens, special=special)) for special in (True, False))

    def _has_stop(self, text: str) -> bool:
        return any(stop in text for stop in self.stops)

    def _before_stop(self, body: Sequence[int]) -> str:
        """The text before the first stop text; one that is a special token is not in the text."""
        text = self._decode(body)
        if self._has_stop(text):
            return self._first_part(text)
        text = self._first_part(self._decode(body, special=True))
        for special in self.tokenizer.all_special_tokens:
            text = text.replace(special, "")
        return text

    def _first_part(self, text: str) -> str:
        return text[: min(place for stop in self.stops if (place := text.find(stop)) >= 0)]
