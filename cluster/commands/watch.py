"""`status`, `logs`, `stop`, `list`: what runs on a cluster, what it says, why it failed, and its orderly end."""

import json
import sys
import time
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from cluster.commands.access import cluster_options, jobs_api, say
from llmcore.errors import ConfigError, InterruptedRunError
from llmcore.logs import readable

if TYPE_CHECKING:
    from cluster.submit.jobs_api import Job

__all__ = ["list_jobs", "logs", "status", "stop"]

_LAST_LINES = 3
_LOOK_EVERY_S = 0.5


@click.command()
@click.argument("job", required=False)
@cluster_options
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def status(job: str | None, as_json: bool, **where: Any) -> int:
    """How a JOB stands: its id, its beginning, or the run's name; without one, the newest."""
    from cluster.submit.identity import find_job

    with jobs_api(**where) as api:
        jobs = api.jobs()
        if job is None and not jobs:
            raise ConfigError("nothing was submitted to this cluster yet: `python -m cluster submit` does")
        found = find_job(jobs, job) if job is not None else jobs[-1]
        if as_json:
            click.echo(json.dumps(_as_json(found), indent=2))
            return 0
        for line in _details(found):
            click.echo(line)
        for line in api.log(found.id).splitlines()[-_LAST_LINES:] if found.node is not None else ():
            click.echo(f"  | {readable(line)}")
    return 0


@click.command("list")
@cluster_options
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def list_jobs(as_json: bool, **where: Any) -> int:
    """The jobs that were submitted to a cluster, the newest last."""
    with jobs_api(**where) as api:
        jobs = api.jobs()
    if as_json:
        click.echo(json.dumps([_as_json(job) for job in jobs], indent=2))
        return 0
    width = max((len(job.id) for job in jobs), default=3)
    click.echo(f"{'job':{width}}  {'status':9}  {'exit':>4}  {'started':19}  {'for':>10}")
    for job in jobs:
        code = "" if job.exit_code is None else str(job.exit_code)
        click.echo(f"{job.id:{width}}  {job.status.lower():9}  {code:>4}  {_at(job.started):19}  {_lasted(job):>10}")
    return 0


@click.command()
@click.argument("job")
@cluster_options
@click.option("--follow", is_flag=True, help="Go on until it is over; the exit code is the job's own.")
@click.option("--why", is_flag=True, help="Instead, why its run failed: the first error of who failed first.")
def logs(job: str, follow: bool, why: bool, **where: Any) -> int:
    """What a JOB has printed: its id, its beginning, or the run's name."""
    from cluster.submit.attempts import exit_code
    from cluster.submit.follow import follow as follow_log
    from cluster.submit.identity import find_job

    with jobs_api(**where) as api:
        found = find_job(api.jobs(), job)
        if why:
            return _tell_why(found)
        if not follow:
            _show("\n".join(map(readable, api.log(found.id).split("\n"))))
            return 0
        try:
            return exit_code(follow_log(api, found.id, show=_show, say=say))
        except KeyboardInterrupt:
            raise InterruptedRunError(f"{found.id} goes on without you") from None


@click.command()
@click.argument("job")
@cluster_options
@click.option("--wait/--no-wait", default=True, show_default=True, help="Until it has taken its checkpoint and ended.")
def stop(job: str, wait: bool, **where: Any) -> int:
    """Stop a JOB in order: training saves its step first, and the same command goes on from there."""
    from cluster.submit.attempts import told_end
    from cluster.submit.identity import find_job

    with jobs_api(**where) as api:
        found = find_job(api.jobs(), job)
        if found.is_over:
            say(f"{found.id} {told_end(found)} already")
            return 0
        api.stop(found.id)
        say(f"{found.id} is asked to stop: training saves the step that it is in")
        while wait and (now := api.job(found.id)) is not None:
            if now.is_over:
                say(f"{found.id} {told_end(now)}; `python -m cluster resume {found.id}` goes on with it")
                break
            time.sleep(_LOOK_EVERY_S)
    return 0


def _tell_why(job: "Job") -> int:
    """Print why the job's run failed, from the run's own records, which this machine has to reach."""
    from llmcore.records.why import why_failed
    from llmcore.storage import Folder

    if not {"storage", "run"} <= job.metadata.keys():
        raise ConfigError(f"{job.id} was not submitted by `python -m cluster submit`, so that its run is not known")
    run = Folder(job.metadata["storage"]) / job.metadata["run"]
    why = why_failed(run)
    click.echo(f"nothing has failed in {run.url}" if why is None else why.told())
    return 0


def _details(job: "Job") -> list[str]:
    from cluster.submit.attempts import told_end

    lines = [f"{job.id}: {told_end(job) if job.is_over else job.status.lower()}"]
    lines += [f"  started   {_at(job.started)}, {_lasted(job)} {'in all' if job.is_over else 'ago'}"]
    if job.exit_code is not None:
        lines += [f"  exit code {job.exit_code}"]
    if not job.is_over:
        lines += [f"  says      {' '.join(job.message.split())}"]
    if {"storage", "run"} <= job.metadata.keys():
        lines += [f"  run       {job.metadata['storage']}/{job.metadata['run']}"]
    return [*lines, f"  runs      {job.entrypoint}"]


def _as_json(job: "Job") -> dict[str, Any]:
    """What is known of a job, but for its configuration, which is long and stands in its run."""
    told = asdict(job)
    told["metadata"] = {key: value for key, value in told["metadata"].items() if key != "configuration"}
    return told


def _at(moment: float | None) -> str:
    return "" if moment is None else datetime.fromtimestamp(moment).strftime("%Y-%m-%d %H:%M:%S")


def _lasted(job: "Job") -> str:
    if job.started is None:
        return ""
    return str(timedelta(seconds=round((job.ended or time.time()) - job.started)))


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
