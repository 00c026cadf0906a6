"""A trial of a population lives several times: each time it goes on from another one's weights, otherwise set.

A life is laid out like a run. The first is the trial's own folder, further ones are `lives/02`, …; what was written in
an earlier one stays as it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmcore.errors import CheckpointError, StorageError
from llmcore.records import in_line, step_of
from llmcore.storage import Folder, read_manifest
from llmcore.train.kept import complete_names, copy_published

__all__ = ["Life", "begin_life", "lives_of", "newest_life"]

_LIVES = "lives"
_LIFE = "life.json"


@dataclass(frozen=True)
class Life:
    """One of them.

    Attributes:
        folder: Where it is written.
        record: Of a further one: its `values`, the `donor`'s folder, the `step` that it goes on from, and what was
            `told` of the donor.
    """

    folder: Folder
    record: Mapping[str, Any] | None

    @property
    def checkpoints(self) -> Folder:
        """Folder of the checkpoints."""
        return self.folder / "checkpoints"

    def complete(self) -> list[str]:
        """Names of the complete checkpoints that a next start may go on from, oldest first."""
        return in_line(self.folder, complete_names(self.checkpoints))

    def is_of(self, donor: Mapping[str, Any]) -> bool:
        """Whether it is the donor's, or began with it."""
        return self.folder.url == donor["life"] or (self.record is not None and self.record["told"] == dict(donor))


def lives_of(trial: Folder) -> list[Life]:
    """All that have begun, in order."""
    lives = trial / _LIVES
    further = [Life(lives / name, (lives / name).find_json(_LIFE)) for name in sorted(lives.names())]
    return [Life(trial, None), *(life for life in further if life.record is not None)]


def newest_life(trial: Folder) -> Life:
    """The one that goes on."""
    return lives_of(trial)[-1]


def begin_life(trial: Folder, values: Mapping[str, Any], donor: Mapping[str, Any]) -> Life:
    """A further life, with the donor's checkpoint as its own; it has begun once that is complete.

    Args:
        trial: The trial's folder.
        values: What it goes on with, by dotted key.
        donor: The `life` (URL) that it takes over, and the `step`.

    Raises:
        CheckpointError: The donor has no checkpoint any more.
    """
    folder = trial / _LIVES / f"{len((trial / _LIVES).names()) + 2:02d}"
    giving = Life(Folder(donor["life"]), None)
    tried: set[str] = set()
    while left := [name for name in giving.complete() if name not in tried]:
        # That of the step itself, or else the newest one: the donor goes on meanwhile, and deletes old ones.
        name = max(left, key=lambda name: (step_of(name) == donor["step"], name))
        tried.add(name)
        if _copied(giving.checkpoints / name, folder / "checkpoints" / name):
            record = {"values": dict(values), "donor": donor["life"], "step": step_of(name), "told": dict(donor)}
            folder.write_json(_LIFE, record)
            return Life(folder, record)
    raise CheckpointError(f"{giving.checkpoints.url} has no complete checkpoint any more: nobody can go on from there")


def _copied(source: Folder, target: Folder) -> bool:
    """Whether it could be copied before its owner, who goes on, deleted it."""
    try:
        return copy_published(source, target) is not None
    except StorageError:
        if read_manifest(source) is not None:
            raise
        return False
