"""`python -m cluster`: what there is to run jobs on."""

import sys

import click

from cluster.commands.doctor import doctor
from cluster.commands.render import render
from cluster.commands.submit import resume, submit
from cluster.commands.up import down, up
from cluster.commands.watch import list_jobs, logs, status, stop
from cluster.connect import connect
from cluster.resources import cluster_nodes
from llmcore.config.common import ClusterSettings
from llmcore.errors import LLMCoreError
from llmcore.redaction import redact

__all__ = ["main"]


@click.group(no_args_is_help=False, invoke_without_command=True)
@click.pass_context
def _commands(context: click.Context) -> None:
    """Where jobs run: a cluster of several nodes on this machine, and what to do with any cluster."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@_commands.command()
@click.argument("address", default="auto")
def resources(address: str) -> None:
    """Show the nodes of a running cluster and what they have; ADDRESS is `auto` or `host:port`."""
    with connect(ClusterSettings(address=address)) as session:
        nodes = cluster_nodes()
        print(f"{session.address}: {len(nodes)} nodes, {session.num_cpus:g} CPU, {session.num_gpus:g} GPU")
        for node in nodes:
            memory_gib = node.get("memory", 0) / 2**30
            print(f"  {node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU, {memory_gib:.1f} GiB of memory")


_commands.add_command(doctor)
_commands.add_command(down)
_commands.add_command(list_jobs)
_commands.add_command(logs)
_commands.add_command(render)
_commands.add_command(resume)
_commands.add_command(status)
_commands.add_command(stop)
_commands.add_command(submit)
_commands.add_command(up)


def main() -> int:
    """Run a command. 0 done, 2 what the user gave is wrong, 1 it failed, 130 interrupted; a command may return another.

    What follows a job returns the job's own.
    """
    try:
        code = _commands.main(prog_name="python -m cluster", standalone_mode=False)
    except click.ClickException as error:
        return _failed(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _failed("interrupted", 130)
    except LLMCoreError as error:
        return _failed(str(error), error.exit_code)
    return code if isinstance(code, int) else 0


def _failed(message: str, exit_code: int) -> int:
    print(redact(f"error: {message}"), file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
