"""Jobs submitted to a real cluster of three nodes, network namespaces of this machine, with their storage on S3."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster import local
from cluster.local import LocalCluster, Node, nodes
from cluster.local.network import free_subnet, used_subnets
from llmcore.storage import Folder
from tests.drivers import environment, wait_for
from tests.servers import Store, s3_here, s3_store
from tests.tiny import write_config

__all__ = ["STORAGE", "Submitted", "World", "submitted_to"]

STORAGE = Folder("s3://bucket/runs")


@dataclass(frozen=True)
class World:
    """A cluster of three nodes, an S3 server that they reach, and what finds both."""

    cluster: LocalCluster
    store: Store
    environment: dict[str, str]
    outage_s: float
    """For which networks are cut and the S3 server is down."""

    def lose(self, node: Node) -> None:
        """All processes of a node are killed at once; then it is there again, as where somebody replaces it."""
        local.lose(node)
        local.restore(self.cluster, self.environment)

    def with_a_rank(self) -> Node:
        """A worker node on which a rank trains."""
        for node in self.cluster.nodes[1:]:
            if any("RayTrainWorker" in line for line in _commands(node)):
                return node
        raise AssertionError("no rank trains")

    def drivers(self, command: str) -> list[psutil.Process]:
        """The processes of a job on the head node."""
        found = []
        for process in nodes.processes(self.cluster.head.temp_dir):
            with suppress(psutil.Error):
                if process.cmdline()[1:4] == ["-m", "jobs", command]:
                    found.append(process)
        return found


def _commands(node: Node) -> list[str]:
    found = []
    for process in nodes.processes(node.temp_dir):
        try:
            found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


@dataclass
class Submitted:
    """A job that is submitted, and whoever follows it."""

    world: World
    command: str
    config: Path
    storage: Folder
    run: Folder
    settings: tuple[str, ...] = ()
    """Changes of the configuration, as one types them."""
    following: "subprocess.Popen[bytes] | None" = None

    @classmethod
    def made(cls, world: World, command: str, folder: Path, config: dict[str, Any]) -> "Submitted":
        """Written down, but not begun."""
        told = {"storage": STORAGE.url, **config}
        path, storage = write_config(folder / f"{config['name']}.yaml", told), Folder(told["storage"])
        return cls(world, command, path, storage, storage / config["name"])

    @property
    def log(self) -> Path:
        """What those who followed it saw."""
        return self.config.with_suffix(".log")

    def submit(self) -> "subprocess.Popen[bytes]":
        """`python -m cluster submit`, left running."""
        command = [sys.executable, "-m", "cluster", "submit", self.command, str(self.config), *self.settings]
        with self.log.open("ab") as log:
            self.following = subprocess.Popen(
                [*command, "--cluster", self.world.cluster.name],
                cwd=self.config.parent,
                env=self.world.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self.following

    def reaches(self, step: int) -> None:
        """Waits for a complete checkpoint at or after a step."""
        assert self.following is not None
        assert wait_for(lambda: self.newest() >= step, self.following), self.log.read_text()

    def newest(self) -> int:
        """The step of the newest complete checkpoint; 0 where there is none."""
        checkpoints = self.run / "checkpoints"
        for name in reversed(checkpoints.names()):
            manifest = checkpoints.find_json(f"{name}/manifest.json")
            if manifest is not None:
                return int(manifest["about"]["progress"]["step"])
        return 0


def submitted_to(factory: pytest.TempPathFactory, kind: str, added: dict[str, str], outage_s: float) -> Iterator[World]:
    """Three nodes, of which the head has the drivers alone, and an S3 server on the address of their bridge.

    Args:
        factory: pytest's, of folders.
        kind: of the server: see `s3_store`.
        added: to the environment of the nodes and of whoever submits.
        outage_s: for which networks are cut and the server is down.
    """
    from jobs.benchmarks.s3_server import free_port

    scratch, subnet = factory.mktemp("s3"), free_subnet(used_subnets())
    address = (subnet.replace(".0/24", ".1"), free_port())
    with pytest.MonkeyPatch.context() as patch, s3_here(address, scratch / "cache") as s3:
        patch.setenv("XDG_STATE_HOME", str(factory.mktemp("state")))
        told = environment(**s3, **added)
        cluster = local.up("faults", cpus_per_node=1, head_cpus=0, subnet=subnet, environment=told)
        try:
            with s3_store(kind, scratch, address) as store:
                yield World(cluster, store, told, outage_s)
        finally:
            local.down("faults")
