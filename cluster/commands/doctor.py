"""`doctor`: what ails a cluster, before a job finds it."""

import os
from pathlib import Path

import click

from llmcore.redaction import redact

__all__ = ["doctor"]

_COLOURS = {"ok": "green", "unknown": "cyan", "warning": "yellow", "error": "red"}


@click.command()
@click.argument("address", required=False)
@click.option("--storage", metavar="URL", help="The storage of your jobs; without it none is tried.")
@click.option("--gpus", "num_gpus", type=click.IntRange(min=0), default=0, help="GPUs that the cluster is to have.")
@click.option("--swap", metavar="FOLDER", help="Offload.folder of jobs that offload to NVMe: it needs room, too.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def doctor(address: str | None, storage: str | None, num_gpus: int, swap: str | None, as_json: bool) -> int:
    """Examine a cluster on all its nodes: what was seen, how bad it is, and the fix.

    ADDRESS is the name of a local cluster, `host:port` of a head node, or `auto`, and is taken from a machine that is
    a node of it; left out, RAY_ADDRESS is taken, or auto. Returns 1 where there is an error, else 0.
    """
    import cluster
    import llmcore
    from cluster.connect import connect
    from cluster.doctor import told
    from cluster.doctor.examine import examine
    from cluster.doctor.finding import exit_code
    from cluster.doctor.patient import Asked
    from cluster.endpoint import resolve
    from llmcore.config.common import ClusterSettings
    from llmcore.storage import resolve_storage

    url = None if storage is None else resolve_storage(storage, inside_ray_job=True).url
    endpoint = resolve(address)
    os.environ |= endpoint.environment()  # where Ray looks for the token
    code = [Path(next(iter(package.__path__))) for package in (cluster, llmcore)]
    with connect(ClusterSettings(address=endpoint.gcs_address or "auto"), code=code) as session:
        report = examine(session, Asked(url, num_gpus, swap))
    lines = [told.as_json(report)] if as_json else told.as_lines(report, _painted)
    for line in lines:
        click.echo(redact(line))
    return exit_code(report.findings)


def _painted(text: str, severity: str) -> str:
    """In its colour; `click.echo` takes colours away where nobody watches."""
    return click.style(text, fg=_COLOURS[severity], bold=severity == "error")
