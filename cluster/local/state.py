"""What is written down about a local cluster: all that is needed to use it, and to take it down whatever happened.

It is written before anything is made, and deleted after all of it is gone; so a start or an end that is killed leaves
nothing that the next `down` does not know.
"""

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cluster.local.network import Network
from llmcore.config.common import Name
from llmcore.errors import ConfigError, RunError

__all__ = ["LocalCluster", "Node", "delete_state", "held", "load", "names", "read_state", "write_state"]
__all__ += ["write_token"]

_FILE = "cluster.json"
_TOKEN = "token"
_LOG = ".log"
_LOCKED_WITHIN_S = 2.0


@dataclass(frozen=True)
class Node:
    """One node: `ray start --block`, and all processes that come of it."""

    name: str
    """`head`, `worker-1`, …: also its name in Ray."""
    address: str
    """Its IP address, in the cluster's own network or on loopback."""
    namespace: str | None
    """Its network namespace; None in the machine's own network."""
    num_cpus: int
    ports: dict[str, int]
    """The ports whose numbers others must know: `metrics`, `agent`; of the head `gcs`, `dashboard` and `client` too."""
    labels: dict[str, str]
    temp_dir: Path
    """Ray's files of this node; it tells the node's processes from all others."""

    @property
    def log(self) -> Path:
        """What `ray start` says."""
        return self.temp_dir.with_name(self.temp_dir.name + _LOG)

    @property
    def pid_file(self) -> Path:
        """Where the number of its first process stands, and since when that lives."""
        return self.temp_dir.with_name(self.temp_dir.name + ".pid")

    @property
    def pid(self) -> int | None:
        """Its first process, the parent of all others, as it was last started; None where it never was."""
        with suppress(FileNotFoundError, ValueError):
            return int(self.pid_file.read_text(encoding="utf-8").split()[0])
        return None

    @property
    def metrics(self) -> str:
        """`host:port` where Prometheus finds the node's metrics."""
        return f"{self.address}:{self.ports['metrics']}"


@dataclass(frozen=True)
class LocalCluster:
    """A cluster on this machine, as it was made; which of its nodes live is for `cluster.local.nodes` to say."""

    name: str
    folder: Path
    """What is written down about it, of mode 0700."""
    temp_dir: Path
    """Ray's files of all nodes, of mode 0700."""
    network: Network | None
    """Its own network; None where all nodes are on loopback."""
    nodes: tuple[Node, ...]
    """The head, and then the workers."""

    @property
    def head(self) -> Node:
        """The node that holds the cluster's state, its dashboard and its Jobs API."""
        return self.nodes[0]

    @property
    def address(self) -> str:
        """`host:port` for drivers."""
        return f"{self.head.address}:{self.head.ports['gcs']}"

    @property
    def dashboard(self) -> str:
        """The URL of the dashboard and of the Jobs API."""
        return f"http://{self.head.address}:{self.head.ports['dashboard']}"

    @property
    def token_file(self) -> Path:
        """Whoever can read it may use the cluster."""
        return self.folder / _TOKEN

    @property
    def environment(self) -> dict[str, str]:
        """What a driver or a client on this machine needs in its environment."""
        return {
            "RAY_ADDRESS": self.address,
            "RAY_API_SERVER_ADDRESS": self.dashboard,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_file),
        }

    def node(self, name: str) -> Node:
        """The node of that name; raises ConfigError where there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        there = ", ".join(node.name for node in self.nodes)
        raise ConfigError(f"cluster {self.name!r} has no node {name!r}: it has {there}")


def load(name: str) -> LocalCluster:
    """The cluster of that name, as it was made; raises ConfigError where there is none."""
    cluster = read_state(_folder(name))
    if cluster is None:
        others = ", ".join(names()) or "none"
        raise ConfigError(
            f"there is no local cluster {name!r} (there are: {others}): start it with "
            f"`python -m cluster up --name {name}`"
        )
    return cluster


def names() -> list[str]:
    """The names of the clusters of this user on this machine, in order."""
    return sorted(file.parent.name for file in _root().glob(f"*/{_FILE}"))


@contextmanager
def held(name: str) -> Iterator[Path]:
    """The folder of a cluster's state, which nobody else holds meanwhile; it is gone afterwards where it is empty.

    Raises ConfigError for a name that is none, and where another `up` or `down` of it is under way.
    """
    folder = _folder(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    handle = _lock(folder, name)
    try:
        yield folder
    finally:
        with suppress(OSError):  # not empty
            folder.rmdir()
        os.close(handle)


def _lock(folder: Path, name: str) -> int:
    """The open folder, locked; it is made where it is not there.

    It is tried for a moment: what a killed `up` had just begun to start holds its files until it is another program.
    """
    deadline = time.monotonic() + _LOCKED_WITHIN_S
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            raise ConfigError(
                f"cluster {name!r} is held by another `up` or `down`: wait for its end, or give another name"
            ) from None
        with suppress(FileNotFoundError):
            if os.path.samestat(folder.stat(), os.fstat(handle)):
                return handle
        os.close(handle)  # of a folder that its last holder has deleted meanwhile


def read_state(folder: Path) -> LocalCluster | None:
    """What stands in the folder; None where nothing does."""
    try:
        told = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(f"{folder / _FILE} cannot be read: {error}") from error
    return LocalCluster(
        name=told["name"],
        folder=folder,
        temp_dir=Path(told["temp_dir"]),
        network=Network(**told["network"]) if told["network"] else None,
        nodes=tuple(Node(**{**node, "temp_dir": Path(node["temp_dir"])}) for node in told["nodes"]),
    )


def write_state(cluster: LocalCluster) -> None:
    """Write it down, all or nothing."""
    told: dict[str, Any] = {key: value for key, value in asdict(cluster).items() if key != "folder"}
    part = cluster.folder / f"{_FILE}.part"
    part.write_text(json.dumps(told, indent=1, default=str), encoding="utf-8")
    part.replace(cluster.folder / _FILE)


def delete_state(cluster: LocalCluster) -> None:
    """Delete all that is written down, what `down` needs last; the folder itself is its holder's."""
    for file in sorted(cluster.folder.iterdir(), key=lambda file: file.name == _FILE):
        file.unlink()


def write_token(cluster: LocalCluster) -> None:
    """A fresh token of 256 random bits, in a file that nobody but its owner reads, from its first moment on."""
    handle = os.open(cluster.token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(secrets.token_hex(32))


def _folder(name: str) -> Path:
    try:
        return _root() / TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise ConfigError(
            f"{name!r} is no name of a cluster: give lower case letters, digits, `.`, `_`, `-`, a letter or digit first"
        ) from None


def _root() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "llmcore" / "clusters"
