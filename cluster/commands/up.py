"""`up` and `down`: a cluster of several nodes on this machine."""

import shlex
import time

import click

from cluster import local
from cluster.local.state import LocalCluster
from llmcore.errors import ConfigError

__all__ = ["down", "up"]

_LABELS_RULE = "give NODE:KEY=VALUE,…, as worker-1:market=spot"


@click.command()
@click.option("--nodes", "num_nodes", type=int, default=3, show_default=True, help="Nodes, the head among them.")
@click.option("--cpus-per-node", type=int, default=2, show_default=True, help="CPUs that each tells Ray it has.")
@click.option("--head-cpus", type=int, help="Of the head node, if others; 0 keeps all work but drivers from it.")
@click.option("--name", default="local", show_default=True, help="What other commands call it.")
@click.option("--labels", multiple=True, metavar="NODE:KEY=VALUE,…", help="Ray labels of a node; may be repeated.")
@click.option(
    "--namespaces/--no-namespaces",
    default=None,
    help="A network of its own for each worker node, or all nodes on loopback.  [default: the first where root may]",
)
@click.option("--subnet", metavar="A.B.C.0/24", help="Theirs; the head has its first address.  [default: a free one]")
def up(
    num_nodes: int,
    cpus_per_node: int,
    head_cpus: int | None,
    name: str,
    labels: tuple[str, ...],
    namespaces: bool | None,
    subnet: str | None,
) -> None:
    """Start a cluster of several Ray nodes on this machine.

    It asks for a token, and can be reached from this machine alone. Nodes have the environment of this command: what
    leads jobs to their storage must be set.
    """
    started = time.monotonic()
    cluster = local.up(
        name,
        num_nodes=num_nodes,
        cpus_per_node=cpus_per_node,
        head_cpus=head_cpus,
        labels=_labels_by_node(labels),
        namespaces=namespaces,
        subnet=subnet,
    )
    print("\n".join(_told(cluster, time.monotonic() - started)))


@click.command()
@click.argument("name", default="local")
def down(name: str) -> None:
    """End the cluster NAME of this machine (`local` if not given), and leave nothing of it."""
    cluster = local.down(name)
    if cluster is None:
        print(f"cluster {name}: there is none")
    else:
        print(f"cluster {name}: its {len(cluster.nodes)} nodes and all their files are gone")


def _labels_by_node(given: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Of each node, by its name."""
    labels: dict[str, dict[str, str]] = {}
    for text in given:
        node, _, pairs = text.partition(":")
        for pair in pairs.split(","):
            key, equals, value = pair.partition("=")
            if not (node and key and equals):
                raise ConfigError(f"--labels {text}: {_LABELS_RULE}")
            labels.setdefault(node, {})[key] = value
    return labels


def _told(cluster: LocalCluster, seconds: float) -> list[str]:
    """What there is now, and what to do with it."""
    place = f"a network of their own, {cluster.network.subnet}" if cluster.network else "loopback, with their own ports"
    lines = [f"cluster {cluster.name}: {len(cluster.nodes)} nodes on {place}, after {seconds:.0f} s"]
    for node in cluster.nodes:
        labels = "".join(f", {key}={value}" for key, value in node.labels.items())
        lines.append(f"  {node.name:<10} {node.address:<15} {node.num_cpus} CPU{labels}, metrics at {node.metrics}")
    lines += [
        f"  dashboard  {cluster.dashboard}, which asks for the token in {cluster.token_file}",
        "",
        "next:",
        f"  python -m cluster submit CONFIG --cluster {cluster.name}",
        f"  python -m cluster down {cluster.name}",
        "or, for a driver in this shell with cluster.address=auto:",
    ]
    lines += [f"  export {name}={shlex.quote(value)}" for name, value in cluster.environment.items()]
    return lines
