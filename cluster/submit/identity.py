"""The name of a submitted job, from which anybody can tell whether it is there already.

`<run>-<first ten of the fingerprint>-<attempt>`: the fingerprint is of what would make it another run, so that the same
configuration has the same name on whichever machine it is submitted, and a failed one gets the next attempt.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.submit.jobs_api import Job
from llmcore.config.common import JobSettings
from llmcore.config.fingerprint import fingerprint
from llmcore.errors import ConfigError
from llmcore.storage.content import content_hash

__all__ = ["Name", "find_job", "settings_hash"]

_DIGITS = 10
_PATTERN = re.compile(rf"^(?P<run>.+)-(?P<fingerprint>[0-9a-f]{{{_DIGITS}}})-(?P<attempt>\d{{2,}})$")


@dataclass(frozen=True)
class Name:
    """A submission id in its parts."""

    run: str
    fingerprint: str
    """Ten hexadecimal digits."""
    attempt: int

    @classmethod
    def of(cls, config: JobSettings, command: str) -> "Name":
        """The first attempt of a configuration; what inputs hold is known on the cluster alone, and is not in it."""
        return cls(config.name, fingerprint(config, {"command": command}, 0)[:_DIGITS], 1)

    @classmethod
    def parse(cls, job_id: str) -> "Name | None":
        """The parts of a submission id; None for one that was not made here."""
        found = _PATTERN.match(job_id)
        return found and cls(found["run"], found["fingerprint"], int(found["attempt"]))

    def __str__(self) -> str:
        return f"{self.run}-{self.fingerprint}-{self.attempt:02d}"

    def at(self, attempt: int) -> "Name":
        """The same with another attempt."""
        return Name(self.run, self.fingerprint, attempt)

    def attempts(self, jobs: Sequence[Job]) -> dict[int, Job]:
        """Of a cluster's jobs the attempts of this one, in their order."""
        named = ((Name.parse(job.id), job) for job in jobs)
        mine = {name.attempt: job for name, job in named if name is not None and name.at(0) == self.at(0)}
        return dict(sorted(mine.items()))


def settings_hash(config: JobSettings) -> str:
    """SHA-256 in hex of all settings as resolved, those that make no other run among them."""
    return content_hash(config.model_dump(mode="json"))


def find_job(jobs: Sequence[Job], called: str) -> Job:
    """The job of an id, or the newest of a run's name, or of the beginning of an id that fits one run alone.

    Raises ConfigError where there is none, or several runs' ids begin like this.
    """
    exact = [job for job in jobs if job.id == called]
    of_run = [job for job in jobs if (name := Name.parse(job.id)) is not None and name.run == called]
    begun = [job for job in jobs if job.id.startswith(called)]
    found = exact or of_run or begun
    if not found:
        near = ", ".join(job.id for job in jobs[-3:]) or "none at all"
        raise ConfigError(f"no job {called!r} on this cluster; the newest are {near}: see `python -m cluster list`")
    if len({name.run if (name := Name.parse(job.id)) else job.id for job in found}) > 1:
        raise ConfigError(f"{called!r} is the beginning of {', '.join(job.id for job in found)}: give more of it")
    return found[-1]
