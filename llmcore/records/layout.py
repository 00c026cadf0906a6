"""Where the records of a run are, and what is recorded of the software that made them."""

import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any, NamedTuple

import llmcore
from llmcore.errors import RunHeldError
from llmcore.storage import Folder

__all__ = ["ATTEMPTS", "BEGIN", "Writer", "attempt_folder", "attempt_numbers", "attempt_of", "check_newest"]
__all__ += ["checkpoint_name", "folder_of", "software_versions", "step_of", "writer_of"]

ATTEMPTS, BEGIN = "attempts", "begin.json"
_PACKAGES = ("ray", "torch", "deepspeed", "transformers")


def attempt_folder(run: Folder, number: int) -> Folder:
    """`attempts/NN` of a run."""
    return run / ATTEMPTS / f"{number:02d}"


def attempt_numbers(run: Folder) -> list[int]:
    """Numbers of the run's attempts, in order; none when nothing has begun."""
    return sorted(int(name) for name in (run / ATTEMPTS).names() if name.isdecimal())


def check_newest(run: Folder, attempt: int) -> None:
    """Raises RunHeldError where a later attempt has begun: one that was paused is no longer the run's writer."""
    newest = max(attempt_numbers(run), default=attempt)
    if newest > attempt:
        raise RunHeldError(
            f"{run.url}: attempt {newest} has begun while attempt {attempt} stood still: a run has one writer, and "
            f"attempt {attempt} ends here"
        )


class Writer(NamedTuple):
    """Who wrote a checkpoint or an export; a later one is greater.

    Attributes:
        attempt: Number of the attempt.
        session: Number of the start of its workers, which Ray may replace.
    """

    attempt: int
    session: int = 1


def checkpoint_name(step: int, attempt: int, session: int = 1) -> str:
    """The name of a checkpoint or an export: it sorts by step and says who wrote it."""
    later = f"-session-{session:03d}" if session > 1 else ""
    return f"step-{step:08d}-attempt-{attempt:02d}{later}"


def writer_of(checkpoint: str) -> Writer:
    """Who wrote a checkpoint, by its name; attempt 0 for a name that is none."""
    attempt, _, session = checkpoint.rpartition("-attempt-")[2].partition("-session-")
    if not attempt.isdecimal() or (session and not session.isdecimal()):
        return Writer(0)
    return Writer(int(attempt), int(session or 1))


def attempt_of(checkpoint: str) -> int:
    """The attempt that a checkpoint's name tells; 0 for a name that is none."""
    return writer_of(checkpoint).attempt


def step_of(checkpoint: str) -> int:
    """The step that a checkpoint's name tells; 0 for a name that is none."""
    told = checkpoint.removeprefix("step-").partition("-")[0]
    return int(told) if told.isdecimal() else 0


def folder_of(ref: Mapping[str, Any]) -> Folder:
    """The attempt's folder from its plain reference (`Attempt.ref()`), in whatever process."""
    return attempt_folder(Folder(ref["run"]), ref["number"])


def software_versions() -> dict[str, str | None]:
    """Versions of Python, of this package and of the libraries that decide results; null for one not installed."""
    return {"python": platform.python_version(), "llmcore": llmcore.__version__} | {
        package: _version(package) for package in _PACKAGES
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
