"""Where a run writes, and as which attempt; it travels to the workers as JSON. Needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from llmcore.records import (
    RUN,
    Attempt,
    Writer,
    attempt_folder,
    begin_session,
    check_newest,
    check_newest_session,
    in_line,
)
from llmcore.storage import Folder
from llmcore.train.kept import Resumption, complete_names, newest_checkpoint

__all__ = ["Place"]


@dataclass(frozen=True)
class Place:
    """Where a run writes, and as which attempt.

    Attributes:
        run: Folder of the run or trial: `checkpoints/` and `exports/` go there.
        attempt: Number that everything written carries.
        accepted: Checkpoints of older starts that may be read.
        holder: Folder of the run whose attempt it is; that of a trial is the search.
        session: Number of the start of the workers, which checkpoints, exports and rows carry too from the second on.
    """

    run: Folder
    attempt: int
    accepted: tuple[str, ...] = ()
    holder: Folder | None = None
    session: int = 1

    @classmethod
    def of(cls, attempt: Attempt) -> "Place":
        """That of a run's attempt."""
        return cls(attempt.run, attempt.number, tuple(attempt.accepted), attempt.run)

    @classmethod
    def beneath(cls, run: Folder, attempt: int, folder: Folder) -> "Place":
        """That of one of several runs which an attempt of `run` has, as a search its trials: laid out like a run."""
        return cls(folder, attempt, tuple(complete_names(folder / "checkpoints")), run)

    def begun(self) -> "Place":
        """That of a start of the workers: it takes the attempt's next session. Raises StorageError."""
        session, accepted = begin_session(self.run, self.attempt, partial(complete_names, self.checkpoints))
        return replace(self, session=session, accepted=tuple(accepted))

    def next_start(self) -> Resumption:
        """Where workers that are started now go on. Raises StorageError."""
        return newest_checkpoint(self.checkpoints, in_line(self.run, complete_names(self.checkpoints)))

    @property
    def writer(self) -> Writer:
        """Who writes here."""
        return Writer(self.attempt, self.session)

    @property
    def records(self) -> Folder:
        """Folder of the attempt: metrics go there."""
        return attempt_folder(self.run, self.attempt)

    @property
    def checkpoints(self) -> Folder:
        """Folder of the checkpoints."""
        return self.run / "checkpoints"

    @property
    def exports(self) -> Folder:
        """Folder of the exports."""
        return self.run / "exports"

    @property
    def fingerprint(self) -> str | None:
        """Of the run that holds it; None where nothing is recorded of a run."""
        record = None if self.holder is None else self.holder.find_json(RUN)
        return None if record is None else str(record["fingerprint"])

    def check_newest(self) -> None:
        """Raises RunHeldError where a later start has begun: what this one would write then is nobody's to read."""
        if self.holder is not None:
            check_newest(self.holder, self.attempt)
        check_newest_session(self.run, self.attempt, self.session)

    def as_json(self) -> dict[str, Any]:
        """What `from_json` takes."""
        holder = None if self.holder is None else self.holder.url
        about = {"run": self.run.url, "attempt": self.attempt, "session": self.session}
        return about | {"accepted": list(self.accepted), "holder": holder}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "Place":
        """The place that `as_json` told."""
        holder = None if given["holder"] is None else Folder(given["holder"])
        return cls(Folder(given["run"]), given["attempt"], tuple(given["accepted"]), holder, given["session"])
