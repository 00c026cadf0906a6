"""Following a job's log to its end, over connections that break."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from cluster.submit.jobs_api import Job, JobsApi
from llmcore.errors import ClusterAwayError
from llmcore.logs import Readable

__all__ = ["PATIENCE_S", "follow"]

PATIENCE_S = 600.0
"""Seconds without an answer after which a cluster is given up; a head node takes some minutes to be replaced."""
_LOOK_EVERY_S = 0.5
_WAITING_TOLD_EVERY_S = 10.0
_RETRY_WITHIN_S = 8.0

Say = Callable[[str], None]


def follow(api: JobsApi, job_id: str, *, show: Say, say: Say, patience_s: float = PATIENCE_S) -> Job | None:
    """Pass on what the job prints, until it is over: the job then, or None where the cluster knows it no more.

    `show` is given the log, each line once however often the connection breaks, and as people read it where it is a
    line of JSON; `say` what is to be told of the waiting. Raises ClusterAwayError where nobody answers for
    `patience_s` seconds.
    """
    shown = Readable(show)
    log = _Log(shown)
    while True:
        lost: ClusterAwayError | None = None
        try:
            job = _until_started(api, job_id, say)
            if job is not None and job.node is not None:  # without one it never had a driver that could print
                log.begin()
                for text in api.tail(job_id):
                    log.add(text)
        except ClusterAwayError as error:
            lost = error
        job = _answer(api, job_id, lost, say, patience_s)
        if job is None or job.is_over:
            shown.end()
            if lost is not None and job is not None:
                say(f"the end of its log is out of reach: {lost}")
            return job
        if lost is None:
            time.sleep(_LOOK_EVERY_S)  # the log ended before the job: the agent of its node is away, or starts anew


@dataclass
class _Log:
    """What was shown of a log that is read from its beginning with every connection."""

    show: Say
    shown: int = 0
    position: int = 0

    def begin(self) -> None:
        self.position = 0

    def add(self, text: str) -> None:
        known = min(len(text), max(0, self.shown - self.position))
        self.position += len(text)
        if known < len(text):
            self.show(text[known:])
            self.shown = self.position


def _until_started(api: JobsApi, job_id: str, say: Say) -> Job | None:
    """The job once it waits no more."""
    began = told = time.monotonic()
    while (job := api.job(job_id)) is not None and job.status == "PENDING":
        if time.monotonic() - told >= _WAITING_TOLD_EVERY_S:
            told = time.monotonic()
            say(f"{job_id} has waited for {told - began:.0f} s: {job.message}")
        time.sleep(_LOOK_EVERY_S)
    return job


def _answer(api: JobsApi, job_id: str, lost: ClusterAwayError | None, say: Say, patience_s: float) -> Job | None:
    """The job as the cluster knows it now, waiting for its answer if need be; says when it was lost and is back."""
    began = time.monotonic()
    away = lost

    def told(error: ClusterAwayError) -> None:
        nonlocal away
        if away is None or away is lost:
            say(f"connection lost: {error}. Trying again for up to {patience_s:.0f} s; the job goes on by itself")
        away = error

    for attempt in Retrying(
        retry=retry_if_exception_type(ClusterAwayError),
        wait=wait_random_exponential(multiplier=0.5, max=_RETRY_WITHIN_S),
        stop=stop_after_delay(patience_s),
        reraise=True,
    ):
        with attempt:
            try:
                job = api.job(job_id)
            except ClusterAwayError as error:
                told(error)
                raise
    if away is not None:
        say(f"connected again after {time.monotonic() - began:.0f} s; the log goes on where it was")
    return job
