"""What a run was made of: the chain of `run.json`, from its parents to theirs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from llmcore.errors import ConfigError
from llmcore.records.identity import RUN
from llmcore.records.results import newest_result, run_folder
from llmcore.storage import Folder

__all__ = ["Ancestor", "lineage_of"]


@dataclass(frozen=True)
class Ancestor:
    """A run, or what else a run names as its parent.

    Attributes:
        name: As its child names it.
        kind: Of run; None for what is no run of this storage: a folder of the hub, a file.
        fingerprint: Of its configuration and inputs.
        result: Of its newest attempt that succeeded.
        parents: What it was made of in its turn.
    """

    name: str
    kind: str | None = None
    fingerprint: str | None = None
    result: dict[str, Any] = field(default_factory=dict)
    parents: tuple["Ancestor", ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, parents within."""
        about = {"name": self.name, "kind": self.kind, "fingerprint": self.fingerprint}
        return about | {"parents": [parent.to_json() for parent in self.parents]}

    def lines(self) -> Iterator[str]:
        """As a tree for a terminal; a run that stands above already is named alone."""
        yield from self._lines("", "", set())

    def _lines(self, first: str, rest: str, seen: set[str]) -> Iterator[str]:
        if self.kind is None:
            yield f"{first}{self.name}"
            return
        again = self.name in seen
        seen.add(self.name)
        yield f"{first}{self.name}  ({self.kind}, {(self.fingerprint or '')[:12]}{', above' if again else _told(self)})"
        for place, parent in enumerate(() if again else self.parents):
            last = place == len(self.parents) - 1
            yield from parent._lines(rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "), seen)


def lineage_of(storage: Folder, reference: str) -> Ancestor:
    """The run, by name or URL, with all that it was made of.

    Raises:
        ConfigError: There is no such run.
    """
    found = _ancestor(storage, reference, ())
    if found.kind is None:
        raise ConfigError(f"there is no run at {run_folder(storage, reference).url}: `python -m jobs runs` lists them")
    return found


def _ancestor(storage: Folder, reference: str, below: tuple[str, ...]) -> Ancestor:
    run = run_folder(storage, reference)
    record = run.find_json(RUN)
    if record is None or reference in below:
        return Ancestor(reference)
    # A run that lies elsewhere names its parents where it lies.
    parents = tuple(_ancestor(run.parent, parent, (*below, reference)) for parent in dict.fromkeys(record["parents"]))
    return Ancestor(reference, record["kind"], record["fingerprint"], newest_result(run) or {}, parents)


def _told(ancestor: Ancestor) -> str:
    """What counts of a run's result, in a few words."""
    result = ancestor.result
    for key in ("chosen", "best_trial", "model_sha256", "tokens"):
        if isinstance(result.get(key), str):
            return f", {key.replace('_', ' ')} {result[key][:60]}"
    return ""
