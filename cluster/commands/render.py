"""`render`: a cluster's typed configuration as the file that its target understands."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

__all__ = ["render"]


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--job",
    nargs=2,
    metavar="COMMAND JOBCONFIG",
    help="A job of `python -m jobs` to run on it: held against what the nodes will have, and part of the file. "
    "KEY=VALUE is then of the job's configuration.",
)
@click.option("--out", type=click.Path(path_type=Path), help="The file to write.  [default: standard output]")
def render(config: Path, overrides: Sequence[str], job: tuple[str, str] | None, out: Path | None) -> None:
    """Write CONFIG (configs/cluster/) as KubeRay's objects, as YAML of `ray up`, or as a script for `sbatch`.

    Nothing secret is in it, and nothing is applied.
    """
    from cluster.render import load_job, render
    from llmcore.config.cluster import ClusterConfig
    from llmcore.config.loading import load_config

    cluster = load_config(ClusterConfig, config, () if job else overrides)
    placed = None if job is None else load_job(cluster, job[0], Path(job[1]), overrides)
    text = render(cluster, placed, source=str(config))
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text, encoding="utf-8")
        click.echo(f"{out}: {_next(cluster.target, out)}", err=True)


def _next(target: str, out: Path) -> str:
    commands = {"kuberay": f"kubectl apply -f {out}", "slurm": f"sbatch {out}"}
    return f"next: {commands.get(target, f'ray up {out}')}"
