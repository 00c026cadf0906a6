"""Why a run failed: the first error of the first rank, trial or stage that failed, not all that followed from it."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from llmcore import errors
from llmcore.errors import SupersededError
from llmcore.records.failures import FAILURE, failures_of, rank_errors_of
from llmcore.records.heartbeat import END, TIMING, Timing, last_beat
from llmcore.records.identity import RUN
from llmcore.records.layout import BEGIN, attempt_folder, attempt_numbers
from llmcore.records.listing import Status, status_of
from llmcore.records.signs import follows_from_another, what_to_do
from llmcore.storage import Folder

__all__ = ["Why", "why_failed"]

_BOUND_S = 1.0
"""A rank tells of its error before its group's failure is written down; clocks of two nodes differ by so much."""


@dataclass(frozen=True)
class Why:
    """What was the first to go wrong in an attempt.

    Attributes:
        run: Name of the run: that of the stage, where a pipeline was asked about.
        attempt: Its number.
        status: How that attempt stands: a run goes on after what Ray Train or Tune make good, and a search succeeds
            beside trials that failed.
        what: The error, `Name: message`; or what is known of an end that left none.
        when: Seconds since the epoch, by the clock of where it happened.
        host: Name or address of the node; None where nothing tells.
        pid: Of the process.
        rank: Of a training's worker.
        trial: Of a search.
        stage: Of a pipeline.
        trace: The stack, as Python prints it.
        also: How many further ranks or trials failed in the same attempt.
        restarts: How often the group of workers had started anew before.
        advice: What to do; None where the error says it, or nothing is known.
    """

    run: str
    attempt: int
    status: Status
    what: str
    when: float | None = None
    host: str | None = None
    pid: int | None = None
    rank: int | None = None
    trial: str | None = None
    stage: str | None = None
    trace: str | None = None
    also: int = 0
    restarts: int = 0
    advice: str | None = None

    @property
    def where(self) -> str:
        """Stage, trial, rank, host and process, as far as they are known."""
        parts = [
            f"stage {self.stage}" if self.stage is not None else "",
            self.trial or "",
            f"rank {self.rank}" if self.rank is not None else "",
            f"host {self.host}" if self.host is not None else "",
            f"process {self.pid}" if self.pid is not None else "",
        ]
        return ", ".join(filter(None, parts))

    def told(self) -> str:
        """All of it as text for people, of several lines."""
        stands = _STANDS[self.status]
        lines = [f"{self.run}, attempt {self.attempt}, {stands}"]
        if self.when is not None:
            at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.when))
            lines += [f"  when   {at}"]
        if self.where:
            lines += [f"  where  {self.where}"]
        lines += _indented("  what   ", self.what)
        if self.advice is not None:
            lines += [f"  do     {self.advice}"]
        if self.restarts:
            lines += [f"  before the workers had started anew {_times(self.restarts)}"]
        if self.also:
            what = "ranks" if self.trial is None else "trials"
            lines += [f"  also   {self.also} further {what} failed, later or because of it"]
        if self.trace is not None:
            lines += _indented("  stack  ", self.trace.rstrip())
        return "\n".join(lines)


_STANDS: Mapping[Status, str] = {
    "failed": "failed:",
    "dead": "has left no end:",
    "interrupted": "was interrupted:",
    "running": "goes on, after this failed:",
    "succeeded": "succeeded, though this failed:",
}


def why_failed(run: Folder, attempt: int | None = None, *, timing: Timing = TIMING) -> Why | None:
    """What was the first to go wrong in a run's attempt: the newest one, or that of a number.

    Of a pipeline it is looked for in the stage that failed first, of a search in its first failed trial, of a training
    in the first rank that failed by itself. Of an attempt that runs on, or has succeeded, it is what was made good;
    None where nothing has failed, or there is no such attempt. Raises StorageError.

    Args:
        run: Folder of the run.
        attempt: Number of the attempt.
        timing: What silence means that it is dead; for one of another host its heartbeat is watched for `stale_s`.
    """
    numbers = attempt_numbers(run)
    if not numbers or (attempt is not None and attempt not in numbers):
        return None
    found = _Attempt.read(run, attempt or numbers[-1], timing)
    why = found.why()
    if why is None or why.advice is not None or _says_itself(why.what):
        return why
    return replace(why, advice=what_to_do("\n".join([why.what, why.trace or ""])))


@dataclass(frozen=True)
class _Attempt:
    """One attempt, and what it left."""

    run: Folder
    number: int
    kind: str
    status: Status
    begin: Mapping[str, Any]
    end: Mapping[str, Any] | None
    timing: Timing

    @classmethod
    def read(cls, run: Folder, number: int, timing: Timing) -> "_Attempt":
        folder = attempt_folder(run, number)
        record = run.find_json(RUN) or {}
        status = status_of(run, number, timing=timing)  # before the end is read: one that ends meanwhile has ended
        begin, end = folder.find_json(BEGIN) or {}, folder.find_json(END)
        return cls(run, number, record.get("kind", ""), status, begin, end, timing)

    @property
    def folder(self) -> Folder:
        return attempt_folder(self.run, self.number)

    def why(self) -> Why | None:
        """Of its parts the first to fail; where none did, its own end."""
        if self.kind == "pipeline":
            return self._of_stages() or self._own_end()
        if self.kind == "tune":
            return self._of_trials() or self._own_end()
        return self._of_workers() or self._own_end()

    def _blank(self) -> Why:
        return Why(self.run.name, self.number, self.status, "")

    @property
    def error(self) -> str:
        """What its end says; empty where it says nothing."""
        return str((self.end or {}).get("error") or "")

    def _own_end(self) -> Why | None:
        """What its driver has said of its end, or that it has said nothing."""
        why = replace(self._blank(), host=self.begin.get("host"), pid=self.begin.get("pid"))
        if self.status == "dead":
            beat = last_beat(self.folder)
            what = "no error was recorded: the driver was killed, its node was lost, or the storage was out of reach"
            advice = "look at the node and at the driver's own log; the same command goes on where it stopped"
            return replace(why, what=what, when=beat, advice=advice)
        if self.end is None or not self.error:
            return None
        return replace(why, what=self.error, when=self.end["ended"])

    def _of_stages(self) -> Why | None:
        """Of the stages that failed, or left no end, while this attempt went on: the first."""
        prefix = f"{self.run.name}."
        count = ("failed", "dead") if self.status in ("failed", "dead") else ("failed",)
        found = []
        for stage in (self.run.parent / name for name in self.run.parent.names() if name.startswith(prefix)):
            one = self._attempt_at(stage)
            if one is not None and one.status in count:
                found.append((one.end["ended"] if one.end else last_beat(one.folder) or 0.0, one))
        if not found:
            return None
        first = min(found, key=lambda each: each[0])[1]
        name, why = first.run.name.removeprefix(prefix), first.why()
        own = self._own_end()
        if first.status == "dead" and own is not None and f"stage {name}" in own.what:
            why = own  # who waited for its process knows by which signal it ended
        return why and replace(why, stage=name)

    def _attempt_at(self, stage: Folder) -> "_Attempt | None":
        """The newest attempt of a stage that this one has begun."""
        began, ended = self.begin.get("started", 0.0), (self.end or {}).get("ended", inf)
        for number in reversed(attempt_numbers(stage)):
            started = (attempt_folder(stage, number).find_json(BEGIN) or {}).get("started", 0.0)
            if began <= started <= ended:
                return _Attempt.read(stage, number, self.timing)
        return None

    def _of_trials(self) -> Why | None:
        """Of the trials that failed in this attempt, the first; None where the search ended for another reason."""
        trials = self.run / "trials"
        found = [why for name in sorted(trials.names()) for why in self._of_trial(name, trials / name)]
        for_them = self.status != "failed" or "TrialError" in self.error
        if not found or self.status in ("dead", "interrupted") or not for_them:
            return None
        first = min(found, key=lambda why: (why.when is None, why.when or 0.0))
        return replace(first, also=len(found) - 1)

    def _of_trial(self, name: str, trial: Folder) -> Iterator[Why]:
        record = trial.find_json("trial.json") or {}
        if record.get("status") != "failed" or record.get("attempt") != self.number:
            return
        lives = [trial, *(trial / "lives" / life for life in sorted((trial / "lives").names()))]
        records = attempt_folder(lives[-1], self.number)
        cause, error = record.get("cause"), str(record.get("error"))
        why = replace(self._blank(), what=f"{cause}: {error}" if cause and cause != "error" else error, trial=name)
        of_rank = _of_ranks(records, why) if _by_workers(error) else None
        yield of_rank or replace(why, when=(records.find_json(FAILURE) or {}).get("time"))

    def _of_workers(self) -> Why | None:
        """The rank whose failure ended this attempt, or was made good the last time."""
        if self.status in ("dead", "interrupted") or (self.status == "failed" and not _by_workers(self.error)):
            return None
        return _of_ranks(self.folder, self._blank())


def _by_workers(error: str) -> bool:
    """Whether an end's error is that of ranks: other things fail, too, after a group that was made good."""
    return "rank " in error


def _of_ranks(records: Folder, why: Why) -> Why | None:
    """`why` of the rank that was the first to fail by itself when the group of workers failed the last time."""
    failures = failures_of(records)
    # Whoever was replaced says so when it finds out, which may be after the true failure of another.
    told = [record for record in rank_errors_of(records) if record["error"] != SupersededError.__name__]
    after = failures[-2]["time"] + _BOUND_S if len(failures) > 1 else 0.0
    by_rank = {record["rank"]: _of_record(record, why) for record in reversed(told) if record["time"] > after}
    last = failures[-1] if failures else {"time": None, "ranks": {}}
    for rank, reason in last["ranks"].items():
        detail = last.get("details", {}).get(rank, "")
        lost = replace(why, rank=int(rank), what=reason, when=last["time"], **_place_in(detail))
        by_rank.setdefault(int(rank), lost)
    if not by_rank:
        return None
    first = min(by_rank.values(), key=lambda one: (follows_from_another(one.what), one.when or 0.0, one.rank))
    survived = why.status in ("running", "succeeded") and why.trial is None
    return replace(first, also=len(by_rank) - 1, restarts=max(0, len(failures) - (not survived)))


def _of_record(record: Mapping[str, Any], why: Why) -> Why:
    return replace(
        why,
        rank=record["rank"],
        what=f"{record['error']}: {record['message']}",
        when=record["time"],
        host=record["host"],
        pid=record["pid"],
        trace=record["traceback"],
    )


def _place_in(detail: str) -> dict[str, Any]:
    """Address and process that Ray's account of a lost actor names, on lines `ip: …` and `pid: …`."""
    lines = [line.strip().partition(": ") for line in detail.splitlines()]
    found = {key: value for key, _, value in lines if key in ("ip", "pid") and value}
    pid = found.get("pid", "")
    return {"host": found.get("ip"), "pid": int(pid) if pid.isdecimal() else None}


def _says_itself(what: str) -> bool:
    """Whether it is a mistake in what was given: such a message has the fix. Storage is another's fault, later on."""
    kind = getattr(errors, what.partition(":")[0], None)
    told = isinstance(kind, type) and issubclass(kind, errors.UserError)
    return told and kind is not errors.StorageError


def _indented(first: str, text: str) -> list[str]:
    head, *rest = text.splitlines() or [""]
    return [first + head, *(f"{' ' * len(first)}{line}" for line in rest)]


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
