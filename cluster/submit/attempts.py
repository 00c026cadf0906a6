"""Bringing a submission to its end: found there already, sent, followed, and sent again where its driver was lost."""

import importlib.metadata
import signal
import time
from collections.abc import Callable
from datetime import timedelta

from cluster.submit.follow import PATIENCE_S, follow
from cluster.submit.identity import Name
from cluster.submit.jobs_api import Job, JobsApi
from cluster.submit.submission import Submission
from llmcore.errors import ConfigError, InterruptedRunError, RunError

__all__ = ["exit_code", "place", "see_through", "told_end", "why_lost"]

_LOST = {
    "JOB_SUPERVISOR_ACTOR_DIED": "its driver's node was lost",
    "JOB_SUPERVISOR_ACTOR_START_FAILURE": "its driver could not be started",
    "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE": "its driver was lost",
}
"""Ends of Ray's that say nothing of the job. That its environment cannot be set up, or nothing is free for its driver,
is not among them: it would be so again."""
_INTERRUPTED = InterruptedRunError.exit_code
_NOT_YET_S = 3.0

Say = Callable[[str], None]


def place(api: JobsApi, submission: Submission, say: Say, *, after: int = 0, again: bool = False) -> tuple[Name, bool]:
    """See that the submission is on the cluster: the name of its attempt, and whether there is anything to wait for.

    An attempt that waits or runs is taken as it is; one that succeeded with the same settings, too, unless `again`;
    after one that failed or was stopped the next is sent. `after` is the number of an attempt that is over whatever the
    cluster says, which may have forgotten it. Raises ConfigError where the run is under way with other settings.
    """
    jobs = api.jobs()
    attempts = submission.name.attempts(jobs)
    _check_alone(jobs, submission)
    newest = max([after, *attempts])
    job = attempts.get(newest)
    if job is not None and newest > after and not job.is_over:
        _check_same(job, submission)
        say(f"{job.id} is there already ({job.status.lower()}, for {_since(job.started)}): following it")
        return submission.name.at(newest), True
    if job is not None and job.status == "SUCCEEDED" and not again and _same(job, submission):
        say(f"{job.id} has succeeded, {_since(job.ended)} ago: {submission.result}; --again submits it once more")
        return submission.name.at(newest), False
    name = submission.name.at(newest + 1)
    _send(api, submission, name, say)
    if job is not None:
        say(f"{job.id}: {told_end(job)}; it goes on as {name}")
    return name, True


def see_through(
    api: JobsApi,
    submission: Submission,
    name: Name,
    *,
    retries: int,
    show: Say,
    say: Say,
    patience_s: float = PATIENCE_S,
) -> int:
    """Follow an attempt to its end, and those that are sent after it: the exit code of the last.

    Where a driver was lost, or the cluster that knew it, the next attempt is sent, at most `retries` times; the run
    goes on from its last checkpoint, and its records fence the older attempt off. A job that ended by itself is not
    sent again.

    Raises ClusterAwayError where nobody answers for `patience_s` seconds, InterruptedRunError where the user has seen
    enough.
    """
    try:
        while True:
            job = follow(api, str(name), show=show, say=say, patience_s=patience_s)
            why = why_lost(job)
            if why is None and job is not None:
                say(f"{name} {told_end(job)}: {submission.result}")
                return exit_code(job)
            if retries == 0:
                say(
                    f"{name}: {why}, and there are no --retries left; the same command goes on from the last checkpoint"
                )
                return exit_code(job)
            retries -= 1
            say(f"{name}: {why}; it is submitted again, {retries} retries left after that")
            name, _ = _placed(api, submission, say, after=name.attempt, patience_s=patience_s)
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"{name} goes on without you: `python -m cluster logs {name} --follow` shows it again, "
            f"`python -m cluster stop {name}` stops it with a checkpoint first"
        ) from None


def why_lost(job: Job | None) -> str | None:
    """Why a job that is over, or forgotten, did not end by itself; None where it did, or was asked to."""
    if job is None:
        return "the cluster knows it no more, its head node is another one"
    if job.status != "FAILED":
        return None
    if job.exit_code is None:
        return _LOST.get(job.error_type or "")
    number = _signal_of(job.exit_code)
    return None if number is None else f"its driver was ended by {number.name}"


def exit_code(job: Job | None) -> int:
    """What a command that followed the job ends with: the driver's own code, as a shell has it; 130 where stopped."""
    if job is None:
        return 1
    if job.status == "STOPPED":
        return _INTERRUPTED
    if job.exit_code is None:
        return 0 if job.status == "SUCCEEDED" else 1
    return job.exit_code if job.exit_code >= 0 else 128 - job.exit_code


def told_end(job: Job) -> str:
    """How it ended, in words."""
    if job.status == "SUCCEEDED":
        return "succeeded"
    if job.status == "STOPPED":
        return "was stopped"
    if job.exit_code is None:
        return f"failed ({' '.join(job.message.split())[:300]})"
    return why_lost(job) or f"ended with exit code {job.exit_code}"


def _signal_of(code: int) -> signal.Signals | None:
    """The signal that ended a process, told by Python (−9) or by a shell around it (137); an interrupt is an end."""
    number = -code if code < 0 else code - 128
    if code == _INTERRUPTED or number <= 0:
        return None
    return signal.Signals(number) if number in set(signal.Signals) else None


def _placed(api: JobsApi, submission: Submission, say: Say, *, after: int, patience_s: float) -> tuple[Name, bool]:
    """The same as `place`, of a cluster that may just be coming back."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return place(api, submission, say, after=after)
        except RunError as error:  # also of a head that answers, and takes no jobs yet
            if time.monotonic() > deadline:
                raise
            say(f"not yet: {error}")
            time.sleep(_NOT_YET_S)


def _send(api: JobsApi, submission: Submission, name: Name, say: Say) -> None:
    theirs, ours = api.ray_version(), importlib.metadata.version("ray")
    if theirs != ours:  # nothing that travels can change it
        raise ConfigError(
            f"cluster {api.endpoint.name} runs Ray {theirs}, this code is for {ours}: use an image with that one"
        )
    if not api.has_package(submission.package_uri):
        if submission.package is None:
            raise ConfigError("the package of this job is on the cluster no more: submit its configuration again")
        api.send_package(submission.package_uri, submission.package.data)
    if not api.submit(submission.request(name)):
        say(f"{name} came there at the same moment: following it")


def _check_alone(jobs: "list[Job]", submission: Submission) -> None:
    """Another configuration of the same run may not be under way: a run has one writer, and would refuse it."""
    for job in jobs:
        other = Name.parse(job.id)
        if other is None or job.is_over or other.at(0) == submission.name.at(0):
            continue
        if (job.metadata.get("storage"), other.run) == (submission.storage, submission.name.run):
            raise ConfigError(
                f"run {other.run!r} is under way as {job.id}, with another configuration: wait for it, stop it "
                f"(`python -m cluster stop {job.id}`), or give another `name`"
            )


def _check_same(job: Job, submission: Submission) -> None:
    if not _same(job, submission):
        raise ConfigError(
            f"{job.id} is under way with other settings: follow it (`python -m cluster logs {job.id} --follow`), or "
            f"stop it (`python -m cluster stop {job.id}`) and submit again"
        )


def _same(job: Job, submission: Submission) -> bool:
    return job.metadata.get("settings") in (None, submission.settings)


def _since(moment: float | None) -> str:
    return str(timedelta(seconds=round(max(0.0, time.time() - (moment or time.time())))))
