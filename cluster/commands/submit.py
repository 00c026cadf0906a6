"""`submit`, which runs any job of `python -m jobs` on a cluster and sees it through; `resume`, which does so again."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from cluster.commands.access import cluster_options, jobs_api, say
from llmcore.config.commands import COMMANDS

__all__ = ["resume", "submit"]

_RETRIES = click.option(
    "--retries",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    help="How often it is submitted again where its driver or the head node is lost.",
)
_FOLLOW = click.option("--follow/--no-follow", default=True, show_default=True, help="Show its log until it is over.")


@click.command()
@click.argument("command", type=click.Choice(tuple(COMMANDS)))
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@cluster_options
@_FOLLOW
@_RETRIES
@click.option("--again", is_flag=True, help="Submit it although it has succeeded.")
@click.option("--install", is_flag=True, help="Have Ray install what differs from constraints.txt, for this job.")
@click.option(
    "--include", multiple=True, type=click.Path(path_type=Path), help="A further file or folder to take along."
)
@click.option(
    "--driver-label", multiple=True, metavar="KEY=VALUE", help="Label of the nodes that its driver may run on."
)
@click.option("--driver-cpus", type=click.FloatRange(0), default=0.0, help="CPUs that its driver reserves.")
@click.option("--allow-changes", is_flag=True, help="Go on with a run although flagged settings changed.")
@click.option("--verbose", is_flag=True, help="Have the job show what Ray, DeepSpeed and transformers say.")
@click.option("--dry-run", is_flag=True, help="Validate and pack it, say what would be sent, and send nothing.")
def submit(
    command: str,
    config: Path,
    overrides: Sequence[str],
    follow: bool,
    retries: int,
    again: bool,
    install: bool,
    include: Sequence[Path],
    driver_label: Sequence[str],
    driver_cpus: float,
    allow_changes: bool,
    verbose: bool,
    dry_run: bool,
    **where: Any,
) -> int:
    """Run COMMAND of `python -m jobs` with a CONFIG on a cluster; KEY=VALUE sets a dotted key of it.

    Submitted twice, it is followed; failed or stopped, it goes on as the next attempt. The exit code is the job's own.
    """
    from cluster.submit.submission import Placement, make_submission, parse_labels

    flags = [*(["--allow-changes"] if allow_changes else []), *(["--verbose"] if verbose else [])]
    made = make_submission(
        command,
        config,
        overrides,
        flags=flags,
        include=include,
        install=install,
        placement=Placement(parse_labels(driver_label), driver_cpus),
    )
    assert made.package is not None
    say(f"package: {made.package.told()}")
    if dry_run:
        for name in made.package.files:
            click.echo(name)
        say(f"would run `{made.entrypoint}` as {made.name}; its run is kept at {made.result}")
        say("Dry run: nothing was sent.")
        return 0
    with jobs_api(**where) as api:
        return _see_through(api, made, follow=follow, retries=retries, again=again)


@click.command()
@click.argument("job")
@cluster_options
@_FOLLOW
@_RETRIES
def resume(job: str, follow: bool, retries: int, **where: Any) -> int:
    """Submit a JOB that failed or was stopped once more, as it was: its id, its beginning, or the run's name.

    It runs the code that it was submitted with where the cluster still has it, and else that of this folder.
    """
    from cluster.submit.resume import submission_of

    with jobs_api(**where) as api:
        return _see_through(api, submission_of(api, job, say), follow=follow, retries=retries, again=False)


def _see_through(api: Any, submission: Any, *, follow: bool, retries: int, again: bool) -> int:
    from cluster.submit.attempts import place, see_through

    name, awaited = place(api, submission, say, again=again)
    if not follow:
        click.echo(str(name))
        return 0
    if not awaited:
        return 0
    return int(see_through(api, submission, name, retries=retries, show=_show, say=say))


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
