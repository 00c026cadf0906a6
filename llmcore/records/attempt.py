"""An attempt: one start of a run, the only writer while it lives."""

import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import yaml

from llmcore.config.common import JobSettings
from llmcore.config.fingerprint import flagged_of
from llmcore.cost import Ledger
from llmcore.errors import InterruptedRunError, as_note_of
from llmcore.logs import about, is_about
from llmcore.records.claim import claim
from llmcore.records.heartbeat import END, SUBMISSION, TIMING, Heartbeat, Say, Timing, await_silence
from llmcore.records.identity import changes_of, open_run
from llmcore.records.layout import BEGIN, Writer, attempt_folder, attempt_numbers, check_newest, software_versions
from llmcore.records.sessions import in_line
from llmcore.redaction import redact, redacted
from llmcore.storage import Folder

__all__ = ["CONFIG", "COST", "Attempt", "begin_attempt"]

CONFIG = "config.yaml"
COST = "cost.json"


class Attempt:
    """A context manager around the work; its end is recorded however the block ends.

    `accepted` are the complete checkpoints of older attempts that this one may read; `result` stands in `end.json`;
    `ledger` becomes `cost.json`.
    """

    def __init__(self, run: Folder, number: int, heartbeat: Heartbeat) -> None:
        """Made by `begin_attempt` alone."""
        self.run = run
        self.number = number
        self.folder = attempt_folder(run, number)
        self.accepted: list[str] = []
        self.result: dict[str, Any] = {}
        self.ledger = Ledger(num_devices=1, device="cpu")
        self._heartbeat = heartbeat
        self._started = time.monotonic()
        self._speaks = not is_about("run")
        if self._speaks:  # else it is one of another's, as a twin of an evaluation's: the process speaks for that
            about(run=run.name, attempt=number)

    def ref(self) -> dict[str, Any]:
        """Plain JSON that names this attempt to other processes: see `folder_of`."""
        return {"run": self.run.url, "number": self.number}

    def check_newest(self) -> None:
        """Raises RunHeldError where a later attempt has begun: call it before what readers find by one name changes."""
        check_newest(self.run, self.number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with as_note_of(error, f"The end of attempt {self.number} could not be recorded either"):
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if self._speaks:
            about(run=None, attempt=None)
        self._heartbeat.stop()
        seconds = time.monotonic() - self._started
        self.ledger.fill_idle(seconds)
        self.folder.write_json(COST, self.ledger.to_json())
        self.folder.write_json(
            END,
            {
                "status": _status(error),
                "error": None if error is None else f"{type(error).__name__}: {error}",
                "ended": time.time(),
                "seconds": seconds,
                "result": self.result,
            },
        )


def _status(error: BaseException | None) -> str:
    if error is None:
        return "succeeded"
    return "interrupted" if isinstance(error, KeyboardInterrupt | InterruptedRunError) else "failed"


def begin_attempt(
    storage: Folder,
    config: JobSettings,
    *,
    kind: str,
    step_version: int,
    inputs: Mapping[str, str],
    parents: Sequence[str] = (),
    accept: Callable[[Folder], list[str]] | None = None,
    allow_changes: bool = False,
    say: Say = print,
    timing: Timing = TIMING,
) -> Attempt:
    """Begin a start of the run `<storage>/<config.name>`: it is new, or the same run going on.

    `inputs` are content hashes of what is read, by name; `parents` names of the runs that made it. `accept` is called
    once older writers are known to be silent and the number is taken; it returns the names of complete checkpoints. Of
    those, what an older attempt wrote after a later one had begun is left out: it stood still, and woke up.

    Raises RunChangedError with the differences, and RunHeldError when another start is alive; it may wait
    for `timing.stale_s` to find out, and says so. Where the storage has no conditional create, two starts within the
    same second may both begin; the heartbeat guards against all others.
    """
    run = open_run(storage, config, kind=kind, step_version=step_version, inputs=inputs, parents=parents)
    changes = changes_of(run, config, allowed=allow_changes)
    begin: dict[str, Any] = {
        "attempt": 0,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "submission": os.environ.get(SUBMISSION),
        "started": 0.0,
        "accepted": None,
        "command": redact(shlex.join(sys.argv)),
        "flagged": redacted(flagged_of(config)),
        "changes": redacted(changes),
        "versions": software_versions(),
        "token": uuid4().hex,
    }
    while True:
        number = max(attempt_numbers(run), default=0)
        if number:
            await_silence(attempt_folder(run, number), timing, say)
        begin |= {"attempt": number + 1, "started": time.time()}
        folder = attempt_folder(run, number + 1)
        if claim(folder, BEGIN, begin):
            break
    attempt = Attempt(run, number + 1, Heartbeat(folder, timing.beat_s, say))
    try:
        resolved = redacted(config.model_dump(mode="json"))
        run.write_text(CONFIG, yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True))
        if accept is not None:
            attempt.accepted = in_line(run, accept(run), before=Writer(attempt.number, 0))
            folder.write_json(BEGIN, begin | {"accepted": attempt.accepted})
    except BaseException as error:
        attempt.__exit__(type(error), error, error.__traceback__)
        raise
    return attempt
