"""A published set that is to be measured: read whole, cut where that is asked for, and divided into portions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from llmcore.bias.measures import MEASURES, Measure
from llmcore.config.bias import BiasKind, BiasSetSettings
from llmcore.errors import CorpusError
from llmcore.storage import content_hash, folder_at

__all__ = ["BiasSet", "Portion"]

_PORTION = 256
"""Examples that are measured and kept together: what a killed process does again at most."""


@dataclass(frozen=True)
class Portion:
    """Some examples of a set, which a model scores once.

    Attributes:
        kind: Of the set.
        examples: In their order.
    """

    kind: BiasKind
    examples: Sequence[tuple[Any, ...]]

    @cached_property
    def hash(self) -> str:
        """Of what is scored, and how."""
        return content_hash("bias", self.kind, MEASURES[self.kind].version, self.examples)


@dataclass(frozen=True)
class BiasSet:
    """A set as it is measured.

    Attributes:
        name: What it is called here.
        kind: Which it is.
        examples: Those that are measured, in their order.
        num_rows_of_set: How many there are.
    """

    name: str
    kind: BiasKind
    examples: Sequence[tuple[Any, ...]]
    num_rows_of_set: int

    @classmethod
    def read(cls, name: str, settings: BiasSetSettings) -> "BiasSet":
        """From its files. Raises CorpusError, with the file and what is the matter, where it is none; StorageError."""
        examples = MEASURES[settings.kind].read(folder_at(settings.url), settings)
        if not examples:
            raise CorpusError(f"bias.sets.{name}: the files of {settings.kind} at {settings.url} have no row in them")
        return cls(name, settings.kind, _sample(examples, settings.limit), len(examples))

    @property
    def measure(self) -> Measure[Any]:
        """What is measured on it."""
        return MEASURES[self.kind]

    @cached_property
    def hash(self) -> str:
        """Of what is measured."""
        return content_hash([portion.hash for portion in self.portions()])

    def portions(self) -> Iterator[Portion]:
        """All its examples, in their order: portions whose size hangs on nothing, so that they are found again."""
        for first in range(0, len(self.examples), _PORTION):
            yield Portion(self.kind, self.examples[first : first + _PORTION])

    def about(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "kind": self.kind,
            "hash": self.hash,
            "num_rows": len(self.examples),
            "num_rows_of_set": self.num_rows_of_set,
        }


def _sample(examples: Sequence[tuple[Any, ...]], limit: int | None) -> Sequence[tuple[Any, ...]]:
    """At most so many, in their order: those whose hashes are the least, whatever else there is."""
    if limit is None or limit >= len(examples):
        return examples
    ranked = sorted(range(len(examples)), key=lambda place: content_hash(examples[place]))
    return [examples[place] for place in sorted(ranked[:limit])]
