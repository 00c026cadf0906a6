"""The options by which every command names its cluster, and the way there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from llmcore.errors import ClusterAwayError, ConfigError

__all__ = ["cluster_options", "jobs_api", "say"]

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--cluster",
        help="Name of a local one, `http://host:8265`, `host:port` or `auto`.  [default: RAY_API_SERVER_ADDRESS or "
        "RAY_ADDRESS, else auto]",
    ),
    click.option("--context", help="Context of kubectl, instead of --cluster: its port is forwarded, its token read."),
    click.option("--namespace", help="In that context.  [default: the context's own]"),
    click.option("--service", help="The Ray head's service there.  [default: the only one]"),
)


def cluster_options(command: Command) -> Command:
    """Give a command the options by which a cluster is named; it takes them as `**where`, for `jobs_api`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@contextmanager
def jobs_api(cluster: str | None, context: str | None, namespace: str | None, service: str | None) -> Iterator[Any]:
    """The Jobs API of the cluster that a command's options name. Raises ConfigError where nobody answers there."""
    from cluster.endpoint import resolve
    from cluster.submit.jobs_api import JobsApi
    from cluster.submit.kubernetes import forwarded

    if context is None and (namespace or service):
        raise click.UsageError("--namespace and --service go with --context")
    if context is not None and cluster is not None:
        raise click.UsageError("got --cluster and --context; expected one of them")
    if context is None:
        yield _answering(JobsApi(resolve(cluster)))
    else:
        with forwarded(context, namespace=namespace, service=service) as endpoint:
            yield _answering(JobsApi(endpoint))


def _answering(api: Any) -> Any:
    try:
        api.ray_version()
    except ClusterAwayError as error:  # at the first request it is the address that is wrong, for all that is known
        raise ConfigError(str(error)) from error
    return api


def say(line: str) -> None:
    """What a command has to say itself; standard output is for what the job says."""
    click.echo(line, err=True)
