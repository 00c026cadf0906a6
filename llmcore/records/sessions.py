"""Starts of an attempt's workers. Ray replaces workers that it counts as lost, and one of those may train on."""

from collections.abc import Callable, Sequence
from uuid import uuid4

from llmcore.errors import SupersededError
from llmcore.records.claim import claim
from llmcore.records.layout import BEGIN, Writer, attempt_folder, attempt_numbers, writer_of
from llmcore.storage import Folder

__all__ = ["begin_session", "check_newest_session", "in_line"]

_SESSIONS = "sessions"


def _numbers(attempt: Folder) -> list[int]:
    names = (name.removesuffix(".json") for name in (attempt / _SESSIONS).names())
    return sorted(int(name) for name in names if name.isdecimal())


def begin_session(run: Folder, attempt: int, accept: Callable[[], Sequence[str]]) -> tuple[int, list[str]]:
    """Takes the next number of an attempt's sessions, and says which complete checkpoints it may read.

    `accept` is called once the number is taken, and returns the names of complete ones. Of those, what an older session
    wrote after a later one had begun is left out. Raises StorageError. Where the storage has no conditional create, two
    starts in the same moment may take one number.
    """
    sessions, record = attempt_folder(run, attempt) / _SESSIONS, {"token": uuid4().hex}
    while True:
        number = max(_numbers(attempt_folder(run, attempt)), default=0) + 1
        name = f"{number:03d}.json"
        if claim(sessions, name, record):
            break
    accepted = in_line(run, accept(), before=Writer(attempt, number))
    sessions.write_json(name, record | {"accepted": accepted})
    return number, accepted


def check_newest_session(run: Folder, attempt: int, session: int) -> None:
    """Raises SupersededError where the attempt's workers were started again: these are no longer the run's writers."""
    newest = max(_numbers(attempt_folder(run, attempt)), default=session)
    if newest > session:
        raise SupersededError(
            f"{run.url}: the workers of attempt {attempt} were started again, as those of session {newest}, while "
            f"these of session {session} counted as lost: a run has one writer, and these end here"
        )


def in_line(run: Folder, complete: Sequence[str], *, before: Writer | None = None) -> list[str]:
    """Of complete checkpoints, those that a next start accepts, or the one that `before` tells did.

    They are what older starts accepted in their turn, and what was written since.
    """
    for number in reversed(attempt_numbers(run)):
        attempt = attempt_folder(run, number)
        for session in [*reversed(_numbers(attempt)), 0]:  # an attempt begins before any of its sessions
            if before is not None and (number, session) >= before:
                continue
            told = f"{_SESSIONS}/{session:03d}.json" if session else BEGIN
            accepted = (attempt.find_json(told) or {}).get("accepted")
            if accepted is not None:
                return [name for name in complete if name in accepted or writer_of(name) >= (number, session)]
    return list(complete)
