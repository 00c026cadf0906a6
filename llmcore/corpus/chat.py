"""Conversations as documents: their messages, rendered by a template."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from llmcore.config.prepare import ChatSettings

__all__ = ["MessagesError", "conversations"]

_SPECIAL = re.compile(r"<(?=\|[^|<>]*\|>)")
"""Where a special token begins, as ours and most chat templates' are written."""


class MessagesError(ValueError):
    """What is in the column is no conversation; `row` counts from 0 in what was given."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row = row


def conversations(settings: ChatSettings, values: Iterable[str | None]) -> Iterator[str | None]:
    """The text of each conversation, given as JSON; null, and one without messages, is null.

    A special token written out in a message is broken up (`< |im_end|>`): nobody ends a turn but the template.

    Raises MessagesError.
    """
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    template = ImmutableSandboxedEnvironment(autoescape=False, keep_trailing_newline=True).from_string(
        settings.template
    )
    for row, value in enumerate(values):
        messages = _messages(row, value)
        yield template.render(messages=messages) if messages else None


def _messages(row: int, value: str | None) -> Sequence[dict[str, str]]:
    if value is None:
        return ()
    try:
        messages: Any = json.loads(value)
    except ValueError as error:
        raise MessagesError(row, f"is no list of messages ({error})") from error
    if not isinstance(messages, list):
        raise MessagesError(row, f"is a {type(messages).__name__}, where a list of messages is expected")
    found = []
    for message in messages:
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise MessagesError(
                row, f"has the message {message!r:.80}, where `role` and `content` are expected, as text"
            )
        found.append(
            {key: _SPECIAL.sub("< ", text) if isinstance(text, str) else text for key, text in message.items()}
        )
    return found
