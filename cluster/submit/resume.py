"""A job that was submitted before, made ready once more from what the cluster knows of it."""

import json
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path

from cluster.submit.identity import Name, find_job
from cluster.submit.jobs_api import Job, JobsApi
from cluster.submit.submission import Placement, Submission, make_submission
from llmcore.errors import ConfigError

__all__ = ["submission_of"]

_KNOWN = ("run", "storage", "command", "settings", "configuration", "include", "placement")
_KEPT = ("working_dir", "env_vars", "pip")
"""Of a runtime environment what a submission sets; Ray adds to it."""


def submission_of(api: JobsApi, called: str, say: Callable[[str], None]) -> Submission:
    """What a job was submitted as. Raises ConfigError where there is no such job, or it was not submitted here.

    A cluster drops a package some minutes after the last job that used it; the code then is that of this folder, which
    is said, and the configuration the one that the job was given, as it was resolved.
    """
    job = find_job(api.jobs(), called)
    name, known = Name.parse(job.id), job.metadata
    if name is None or not all(key in known for key in _KNOWN):
        raise ConfigError(f"{job.id} was not submitted by `python -m cluster submit`: submit its configuration")
    uri = str(job.runtime_env.get("working_dir", ""))
    if not api.has_package(uri):
        say(f"the package of {job.id} is on the cluster no more: the code of this folder is sent")
        return _packed_again(job)
    return Submission(
        name=name,
        command=known["command"],
        entrypoint=job.entrypoint,
        storage=known["storage"],
        settings=known["settings"],
        package_uri=uri,
        package=None,
        runtime_env={key: job.runtime_env[key] for key in _KEPT if job.runtime_env.get(key)},
        metadata={key: known[key] for key in _KNOWN},
        placement=Placement.from_json(known["placement"]),
    )


def _packed_again(job: Job) -> Submission:
    known = job.metadata
    if included := json.loads(known["include"]):
        raise ConfigError(f"{job.id} had {', '.join(included)} with it, which is gone: submit its configuration again")
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, f"{known['run']}.yaml")
        config.write_text(known["configuration"], encoding="utf-8")
        return make_submission(
            known["command"],
            config,
            (),
            flags=[word for word in shlex.split(job.entrypoint) if word.startswith("--")],
            install="pip" in job.runtime_env,
            placement=Placement.from_json(known["placement"]),
        )
