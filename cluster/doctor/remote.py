"""The doctor as a job of the cluster, where this machine is no node of it."""

from collections.abc import Callable, Sequence
from uuid import uuid4

from cluster.submit.follow import follow
from cluster.submit.jobs_api import JobsApi
from cluster.submit.package import build_package, code_root
from llmcore.errors import RunError

__all__ = ["examine_remotely"]


def examine_remotely(api: JobsApi, arguments: Sequence[str], *, show: Callable[[str], None]) -> int:
    """Send this code, and run `python -m cluster doctor auto …` with the arguments on the head node; its exit code.

    `show` is given what it prints. Raises ConfigError where the token is missing or wrong, RunError where the job
    ends without an exit code of its own.
    """
    root = code_root()
    package, _ = build_package(root, root / "pyproject.toml")  # which travels anyway
    if not api.has_package(package.uri):
        api.send_package(package.uri, package.data)
    name = f"doctor-{uuid4().hex[:10]}"
    entrypoint = " ".join(["python -m cluster doctor auto", *arguments])
    api.submit({"submission_id": name, "entrypoint": entrypoint, "runtime_env": {"working_dir": package.uri}})
    job = follow(api, name, show=show, say=lambda line: None)
    if job is None or job.exit_code is None or job.exit_code < 0:
        raise RunError(
            f"the doctor's job {name} ended without a report: {'it is gone' if job is None else job.message}"
        )
    return job.exit_code
