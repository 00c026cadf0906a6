"""What a cleaning step is."""

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from llmcore.errors import ConfigError

__all__ = ["Draft", "Step", "optional"]


@dataclass(slots=True)
class Draft:
    """A document on its way through the steps.

    Attributes:
        text: as the steps so far have left it.
        language: ISO 639 code, where a step has found it.
    """

    text: str
    language: str | None = None


class Step(ABC):
    """One step, for one document after the other: it changes the draft, and says why it is to be dropped, if so."""

    name: ClassVar[str]
    """Its section in the configuration."""
    version: ClassVar[int]
    """Another version makes other documents of the same ones: what was cleaned by an older one is cleaned again."""

    @abstractmethod
    def __init__(self, settings: Any) -> None:
        """From its section. Raises ConfigError where a library is missing, or a value cannot be used."""

    @abstractmethod
    def __call__(self, draft: Draft, found: Counter[str]) -> str | None:
        """Change the draft, and count in `found` what was found in it; None keeps it, a reason drops it."""


def optional(module: str, step: str) -> ModuleType:
    """A library of the extra `clean`. Raises ConfigError that says how to install it."""
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        library = module.split(".", maxsplit=1)[0]
        raise ConfigError(
            f"cleaning.{step} needs {library} ({error}): install llmcore[clean], or leave it out"
        ) from error
