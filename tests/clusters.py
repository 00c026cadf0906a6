"""A Ray cluster of several nodes on this machine, whose nodes come and are lost."""

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from cluster.warm import WarmStart
from tests.drivers import environment, ray_folder

__all__ = ["LocalCluster", "local_cluster"]

_ENVIRONMENT = {"DS_ACCELERATOR": "cpu", "RAY_AUTH_MODE": "disabled"}


@dataclass
class LocalCluster:
    """`ray start` for each node; a process of `ray start --block` is the parent of all others of its node.

    Its workers have a warm start, since these tests have many of them start.
    """

    folder: str
    warm: WarmStart
    dashboard: bool = False
    """Whether the head has one, at a port of its own; it tells Prometheus where nodes are."""
    address: str = ""
    """`host:port`."""
    nodes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs in its environment to take this cluster for the local Ray."""
        return {"LLMCORE_LOCAL_RAY": self.address, **self.warm.environment, **_ENVIRONMENT}

    def add_node(self, num_cpus: int) -> "subprocess.Popen[bytes]":
        """A node more; the first one is the head."""
        joins = [f"--address={self.address}"] if self.nodes else ["--head", "--port=0", *self._dashboard()]
        said = Path(self.folder, f"node-{len(self.nodes)}.log")
        with said.open("wb") as file:
            options = [f"--num-cpus={num_cpus}", f"--temp-dir={self.folder}", "--object-store-memory=100000000"]
            node = subprocess.Popen(
                [str(Path(sys.executable).with_name("ray")), "start", "--block", *joins, *options],
                env=environment(RAY_TMPDIR=self.folder, **self.warm.environment, **_ENVIRONMENT),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.nodes.append(node)
        while "Ray runtime started" not in said.read_text():
            with suppress(subprocess.TimeoutExpired):
                node.wait(0.1)
            assert node.poll() is None, said.read_text()
        if not self.address:
            found = re.search(r"--address='([^']+)'", said.read_text())
            assert found is not None, said.read_text()
            self.address = found[1]
        return node

    def _dashboard(self) -> list[str]:
        if not self.dashboard:
            return ["--include-dashboard=false"]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return ["--dashboard-host=127.0.0.1", f"--dashboard-port={free.getsockname()[1]}"]

    def workers(self) -> list[psutil.Process]:
        """The processes in which ranks train, now."""
        found = []
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if "RayTrainWorker" in " ".join(process.cmdline()):
                    found.append(process)
        return found

    @staticmethod
    def lose(node: "subprocess.Popen[bytes]") -> None:
        """Kills all processes of a node at once, its workers too, as when its power fails."""
        lost = [*psutil.Process(node.pid).children(recursive=True), psutil.Process(node.pid)]
        for process in lost:
            with suppress(psutil.Error):
                process.suspend()  # nobody of them shall see another die
        for process in lost:
            with suppress(psutil.Error):
                process.kill()
        node.wait()


@contextmanager
def local_cluster(*num_cpus: int, dashboard: bool = False) -> Iterator[LocalCluster]:
    """A cluster with a node for each number of CPUs; at the end all its processes are killed."""
    with ray_folder() as folder:
        warm = WarmStart()
        try:
            cluster = LocalCluster(folder, warm, dashboard)
            for cpus in num_cpus:
                cluster.add_node(cpus)
            yield cluster
        finally:
            warm.end()
