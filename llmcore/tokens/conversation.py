"""Conversations as a tokenizer's own chat template writes them down; it may come from a stranger."""

from collections.abc import Sequence
from typing import Any

from llmcore.errors import ConfigError

__all__ = ["written_down"]


def written_down(tokenizer: Any, messages: Sequence[Any], **options: Any) -> Any:
    """What `apply_chat_template` gives of the messages, with its options.

    transformers renders templates in Jinja's sandbox, where nothing is reached but the messages and nothing changed.

    Raises ConfigError where the template is none, refuses the messages, or tries what a template may not.
    """
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(messages, **options)
    except (
        TemplateError,
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        RecursionError,
        TypeError,
    ) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError(
            f"the chat template of {tokenizer.name_or_path} cannot be used ({type(error).__name__}: {reason}): correct "
            "chat_template in its tokenizer's folder"
        ) from error
