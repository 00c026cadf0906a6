"""What cleaning did: counts by step, and examples of what it dropped; added up in any order, they are the same."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Example", "StepTally", "Tally"]

MAX_EXAMPLES = 3
"""Of each reason."""


@dataclass(frozen=True, order=True)
class Example:
    """A document that was dropped.

    Attributes:
        rank: of its id, as good as random: those of the lowest ranks are shown, whoever finds them first.
        id, shard, row: where it is.
        excerpt: its beginning, with what may be personal data masked.
    """

    rank: str
    id: str
    shard: str
    row: int
    excerpt: str

    @classmethod
    def of(cls, id: str, shard: str, row: int, excerpt: str) -> "Example":
        """An example, ranked."""
        return cls(hashlib.blake2b(id.encode(), digest_size=8).hexdigest(), id, shard, row, excerpt)


@dataclass
class StepTally:
    """What one step did.

    Attributes:
        documents, characters: what came to it.
        characters_kept: in the documents that it kept, after its changes.
        dropped: documents, by reason.
        found: what it counted in documents: masks, repairs, languages.
        seconds: of one process, all together.
        examples: by reason.
    """

    documents: int = 0
    characters: int = 0
    characters_kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    examples: dict[str, list[Example]] = field(default_factory=dict)

    def drop(self, reason: str, example: Example) -> None:
        """Count a document that was dropped."""
        self.dropped[reason] += 1
        self._show(reason, [example])

    def add(self, other: "StepTally") -> None:
        """Count what the step did elsewhere, too."""
        self.documents += other.documents
        self.characters += other.characters
        self.characters_kept += other.characters_kept
        self.dropped.update(other.dropped)
        self.found.update(other.found)
        self.seconds += other.seconds
        for reason, examples in other.examples.items():
            self._show(reason, examples)

    def to_json(self) -> dict[str, Any]:
        """As plain values; counts of nothing are left out."""
        counts = {"dropped": _ordered(self.dropped), "found": _ordered(self.found)}
        return asdict(self) | counts | {"seconds": round(self.seconds, 3)}

    def _show(self, reason: str, examples: Iterable[Example]) -> None:
        self.examples[reason] = sorted({*self.examples.get(reason, []), *examples})[:MAX_EXAMPLES]


@dataclass
class Tally:
    """What all steps did to the documents of one source, by step in their order; and what came out.

    Attributes:
        documents, characters: read.
        steps: by the step's name.
        passages: what the documents kept were split into, the unsplit ones included.
        languages: documents kept, by language.
        quarantined: shards that are left out, by name, and why.
    """

    documents: int = 0
    characters: int = 0
    steps: dict[str, StepTally] = field(default_factory=dict)
    passages: int = 0
    languages: Counter[str] = field(default_factory=Counter)
    quarantined: dict[str, str] = field(default_factory=dict)

    def add(self, other: "Tally") -> None:
        """Count other documents of the source, too."""
        self.documents += other.documents
        self.characters += other.characters
        self.passages += other.passages
        self.languages.update(other.languages)
        self.quarantined |= other.quarantined
        for name, step in other.steps.items():
            self.steps.setdefault(name, StepTally()).add(step)

    def to_json(self) -> dict[str, Any]:
        """As plain values; counts of nothing are left out."""
        steps = {name: step.to_json() for name, step in self.steps.items()}
        quarantined = dict(sorted(self.quarantined.items()))
        return asdict(self) | {"languages": _ordered(self.languages), "quarantined": quarantined, "steps": steps}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Tally":
        """The inverse of `to_json`."""
        steps = {}
        for name, step in plain["steps"].items():
            examples = {reason: [Example(**shown) for shown in found] for reason, found in step["examples"].items()}
            counts = {"dropped": Counter(step["dropped"]), "found": Counter(step["found"])}
            steps[name] = StepTally(**{**step, **counts, "examples": examples})
        return cls(**{**plain, "steps": steps, "languages": Counter(plain["languages"])})


def _ordered(counts: Counter[str]) -> dict[str, int]:
    return {name: number for name, number in sorted(counts.items()) if number}
