"""Where a run writes, and as which attempt; it travels to the workers as JSON. Needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmcore.records import Attempt, attempt_folder
from llmcore.storage import Folder
from llmcore.train.kept import complete_names

__all__ = ["Place"]


@dataclass(frozen=True)
class Place:
    """Where a run writes, and as which attempt.

    Attributes:
        run: Folder of the run or trial: `checkpoints/` and `exports/` go there.
        attempt: Number that everything written carries.
        accepted: Checkpoints of older attempts that may be read.
    """

    run: Folder
    attempt: int
    accepted: tuple[str, ...] = ()

    @classmethod
    def of(cls, attempt: Attempt) -> "Place":
        """That of a run's attempt."""
        return cls(attempt.run, attempt.number, tuple(attempt.accepted))

    @classmethod
    def beneath(cls, attempt: Attempt, folder: Folder) -> "Place":
        """That of one of several runs which an attempt has, as a search its trials: laid out like a run of its own."""
        return cls(folder, attempt.number, tuple(complete_names(folder / "checkpoints")))

    @property
    def records(self) -> Folder:
        """Folder of the attempt: metrics go there."""
        return attempt_folder(self.run, self.attempt)

    def as_json(self) -> dict[str, Any]:
        """What `from_json` takes."""
        return {"run": self.run.url, "attempt": self.attempt, "accepted": list(self.accepted)}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "Place":
        """The place that `as_json` told."""
        return cls(Folder(given["run"]), given["attempt"], tuple(given["accepted"]))
