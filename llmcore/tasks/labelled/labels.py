"""The classes of a labelled set, and what a file calls them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from llmcore.corpus.formats import as_text
from llmcore.storage import parsed_json

__all__ = ["Labels", "parts_of_labels"]


@dataclass(frozen=True)
class Labels:
    """Classes by what stands in the files.

    Attributes:
        called: The class of each value; several values may be one class.
    """

    called: Mapping[str, str]

    @classmethod
    def of(cls, given: "list[str] | dict[str, str]") -> "Labels":
        """As a configuration says."""
        return cls(given if isinstance(given, dict) else {name: name for name in given})

    @classmethod
    def found(cls, values: Iterable[str]) -> "Labels":
        """Those that there are, sorted."""
        return cls({name: name for name in sorted(set(values))})

    @property
    def names(self) -> list[str]:
        """The classes, in order."""
        return list(dict.fromkeys(self.called.values()))

    def index(self, value: str) -> int:
        """The index of a value's class. Raises ValueError for a value that is none of them."""
        if value not in self._indices:
            raise ValueError(
                f"{value!r} is none of the labels {list(self.called)}: correct the row, or name it in `label_names`"
            )
        return self._indices[value]

    @cached_property
    def _indices(self) -> Mapping[str, int]:
        names = self.names
        return {value: names.index(name) for value, name in self.called.items()}


def parts_of_labels(text: str, separator: str | None) -> list[str]:
    """Several labels in one text, as a JSON list or with something between them. Raises ValueError."""
    if separator is not None:
        return list(dict.fromkeys(part.strip() for part in text.split(separator) if part.strip()))
    try:
        found: Any = parsed_json(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or None in found:
        raise ValueError(f"{text!r:.80} is no list of labels: give one as in JSON, or set `label_separator`")
    return list(dict.fromkeys(str(as_text(label)) for label in found))
