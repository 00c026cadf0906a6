"""Conversations as documents: their messages, rendered by a template."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from llmcore.config.prepare import ChatSettings
from llmcore.storage import parsed_json

__all__ = ["MessagesError", "conversations", "messages_of"]

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
        try:
            messages = [] if value is None else messages_of(value)
        except ValueError as error:
            raise MessagesError(row, str(error)) from error
        yield template.render(messages=[*map(_broken_up, messages)]) if messages else None


def messages_of(value: str) -> list[dict[str, Any]]:
    """The messages of a conversation in JSON, each with `role` and `content` as texts, and whatever else it has.

    Raises ValueError, saying what is wrong with it.
    """
    try:
        messages: Any = parsed_json(value)
    except ValueError as error:
        raise ValueError(f"is no list of messages ({error})") from error
    if not isinstance(messages, list):
        raise ValueError(f"is a {type(messages).__name__}, where a list of messages is expected")
    for message in messages:
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise ValueError(f"has the message {message!r:.80}, where `role` and `content` are expected, as text")
    return messages


def _broken_up(message: dict[str, Any]) -> dict[str, Any]:
    return {key: _SPECIAL.sub("< ", text) if isinstance(text, str) else text for key, text in message.items()}
