"""An answer as it comes, for who watches."""

from collections.abc import Sequence
from typing import Any

__all__ = ["TypedOut", "sure_part"]

_HALF_CHARACTER = "\ufffd"


def sure_part(text: str, stops: Sequence[str]) -> str:
    """What of an answer stays, whatever comes: before a stop text, or what may become one, or half a character."""
    for place in range(len(text)):
        rest = text[place:]
        if any(rest.startswith(stop) or stop.startswith(rest) for stop in stops):
            return text[:place]
    return text.rstrip(_HALF_CHARACTER)


class TypedOut:
    """Prints the text of tokens as far as it is sure; transformers' `generate` takes it as a streamer."""

    def __init__(self, tokenizer: Any, stops: Sequence[str]) -> None:
        self._tokenizer, self._stops = tokenizer, stops
        self._tokens: list[int] | None = None
        self._shown = ""

    def put(self, value: Any) -> None:
        """Take up tokens; the first ones are the prompt."""
        if self._tokens is None:
            self._tokens = []
            return
        self._tokens += value.flatten().tolist()
        text = self._tokenizer.decode(self._tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        self._show(sure_part(text, self._stops))

    def end(self) -> None:
        """Nothing comes any more; what the answer is, is said by `finish`."""

    def finish(self, text: str) -> None:
        """Print the rest of an answer."""
        self._show(text)
        print(flush=True)

    def _show(self, text: str) -> None:
        print(text[len(self._shown) :], end="", flush=True)
        self._shown = text
