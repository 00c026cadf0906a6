"""A Ray head with a dashboard, as `ray start` makes one: with ports, a folder and a token of its own."""

import secrets
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.drivers import environment, ray_folder, run

__all__ = ["RayHead", "ray_head"]

_READY_WITHIN_S = 120


@dataclass(frozen=True)
class RayHead:
    """A head node on loopback, which asks for its token."""

    address: str
    jobs_url: str
    folder: Path
    """Ray's own: sessions with their logs."""
    env: dict[str, str]
    """What a driver or a client needs."""


@contextmanager
def ray_head(home: Path, **added: str) -> Iterator[RayHead]:
    """`ray start --head` for the time of a block; `added` goes into its environment, and into that of its clients."""
    (home / "token").write_text(secrets.token_hex(32))
    port, dashboard, client, agent = _free_ports(4)
    with ray_folder() as ray:
        env = environment(
            HOME=str(home),
            RAY_AUTH_MODE="token",
            RAY_AUTH_TOKEN_PATH=str(home / "token"),
            RAY_TMPDIR=ray,
            RAY_TRAIN_HEALTH_CHECK_INTERVAL_S="0.25",  # as on a local Ray: a report waits for it
            PYTHONPATH="",
        )
        for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN"):
            env.pop(name, None)
        env |= added
        options = {
            "node-ip-address": "127.0.0.1",
            "port": port,
            "dashboard-host": "127.0.0.1",
            "dashboard-port": dashboard,
            "ray-client-server-port": client,
            "dashboard-agent-listen-port": agent,
            "min-worker-port": 0,
            "max-worker-port": 0,
            "temp-dir": ray,
            "num-cpus": 2,
        }
        start = ["start", "--head", *(f"--{name}={value}" for name, value in options.items())]
        started = run([sys.executable, "-m", "ray.scripts.scripts", *start], cwd=home, env=env, timeout_s=300)
        assert started.code == 0, started.out + started.err
        found = RayHead(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", Path(ray), env)
        _await_jobs_api(found)
        yield found


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _await_jobs_api(head: RayHead) -> None:
    """The dashboard answers some seconds after the head: with 401, since it is asked without the token."""
    deadline = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{head.jobs_url}/api/jobs/", timeout=5):
                raise AssertionError("the Jobs API answers without the token")
        except urllib.error.HTTPError as error:
            if error.code == 401:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise TimeoutError(f"no Jobs API at {head.jobs_url} within {_READY_WITHIN_S} s")
