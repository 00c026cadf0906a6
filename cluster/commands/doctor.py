"""`doctor`: what ails a cluster, before a job finds it."""

import os
import shlex
from pathlib import Path
from typing import Any

import click

from cluster.commands.access import context_options, jobs_api
from llmcore.redaction import redact

__all__ = ["doctor"]

_COLOURS = {"ok": "green", "unknown": "cyan", "warning": "yellow", "error": "red"}


@click.command()
@click.argument("address", required=False)
@context_options
@click.option("--storage", metavar="URL", help="The storage of your jobs; without it none is tried.")
@click.option("--gpus", "num_gpus", type=click.IntRange(min=0), default=0, help="GPUs that the cluster is to have.")
@click.option("--swap", metavar="FOLDER", help="Offload.folder of jobs that offload to NVMe: it needs room, too.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@click.option("--list", "listed", is_flag=True, help="Only tell what is looked at, and the bounds.")
def doctor(
    address: str | None,
    storage: str | None,
    num_gpus: int,
    swap: str | None,
    as_json: bool,
    listed: bool,
    **context: Any,
) -> int:
    """Examine a cluster on all its nodes: what was seen, how bad it is, and the fix.

    ADDRESS is the name of a local cluster, `host:port` of a head node, or `auto`, on a machine that is a node of it;
    from elsewhere it is `http://…` of the dashboard, or a --context of kubectl, and the examination runs as a job.
    Without one RAY_API_SERVER_ADDRESS or RAY_ADDRESS is taken, or auto. Returns 1 where there is an error, else 0.
    """
    from cluster.doctor.checks import CHECKS
    from llmcore.storage import resolve_storage

    if listed:
        click.echo("\n".join(f"{check.name}: {check.looks_at}" for check in CHECKS))
        return 0
    url = None if storage is None else resolve_storage(storage, inside_ray_job=True).url
    if _from_elsewhere(address, context):
        from cluster.doctor.remote import examine_remotely

        given = {"--storage": url, "--gpus": num_gpus or None, "--swap": swap}
        arguments = [shlex.quote(f"{name}={value}") for name, value in given.items() if value is not None]
        arguments += ["--json"] if as_json else []
        with jobs_api(address, **context) as api:
            return examine_remotely(api, arguments, show=lambda text: click.echo(redact(text), nl=False))
    return _examine(address, url, num_gpus, swap, as_json=as_json)


def _from_elsewhere(address: str | None, context: dict[str, Any]) -> bool:
    named = address or os.environ.get("RAY_API_SERVER_ADDRESS") or ""
    return any(context.values()) or named.startswith(("http://", "https://"))


def _examine(address: str | None, url: str | None, num_gpus: int, swap: str | None, *, as_json: bool) -> int:
    """From here, which is a node of the cluster."""
    import cluster
    import llmcore
    from cluster.connect import connect, inside_ray_job
    from cluster.doctor import told
    from cluster.doctor.examine import examine
    from cluster.doctor.finding import exit_code
    from cluster.doctor.patient import Asked
    from cluster.endpoint import resolve
    from llmcore.config.common import ClusterSettings

    endpoint = resolve(address)
    os.environ |= endpoint.environment()  # where Ray looks for the token
    packages = () if inside_ray_job() else (cluster, llmcore)  # in a job they are on their way already
    code = [Path(next(iter(package.__path__))) for package in packages]
    with connect(ClusterSettings(address=endpoint.gcs_address or "auto"), code=code) as session:
        report = examine(session, Asked(url, num_gpus, swap))
    lines = [told.as_json(report)] if as_json else told.as_lines(report, _painted)
    for line in lines:
        click.echo(redact(line))
    return exit_code(report.findings)


def _painted(text: str, severity: str) -> str:
    """In its colour; `click.echo` takes colours away where nobody watches."""
    return click.style(text, fg=_COLOURS[severity], bold=severity == "error")
