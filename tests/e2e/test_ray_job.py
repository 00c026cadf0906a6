"""The same pipeline on a cluster that is there: as a Ray job, and with `cluster.address=auto`."""

import json
import secrets
import shutil
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.drivers import ROOT, environment, ray_folder, run
from tests.tiny import told_losses, write_config

pytestmark = pytest.mark.timeout(3600)

# The search and the verdict need no second proof here: one trial of one worker, and no twin.
SHORT = (
    "stages.tune.num_trials=1",
    "stages.tune.finetune.workers.num_workers=1",
    "stages.evaluate.baselines=[majority]",
)
_READY_WITHIN_S = 120


@dataclass(frozen=True)
class Cluster:
    """A head node on loopback, which asks for its token."""

    address: str
    jobs_url: str
    env: dict[str, str]
    """What a driver or a client needs."""


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages as a clone has them, and nothing else."""
    folder = tmp_path_factory.mktemp("clone")
    for room in ("llmcore", "jobs", "cluster"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """`ray start --head`, with ports, folder and token of its own."""
    home = tmp_path_factory.mktemp("home")
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
        start = ["ray", "start", "--head", *(f"--{name}={value}" for name, value in options.items())]
        started = run([sys.executable, "-m", "ray.scripts.scripts", *start[1:]], cwd=home, env=env, timeout_s=300)
        assert started.code == 0, started.out + started.err
        found = Cluster(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", env)
        _await_jobs_api(found)
        yield found


def _await_jobs_api(cluster: Cluster) -> None:
    """The dashboard answers some seconds after the head: with 401, since it is asked without the token."""
    deadline = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{cluster.jobs_url}/api/jobs/", timeout=5):
                raise AssertionError("the Jobs API answers without the token")
        except urllib.error.HTTPError as error:
            if error.code == 401:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise TimeoutError(f"no Jobs API at {cluster.jobs_url} within {_READY_WITHIN_S} s")


def test_as_a_ray_job(
    cluster: Cluster, clone: Path, reference: Path, tiny: "dict[str, object]", tmp_path: Path
) -> None:
    write_config(clone / "tiny.yaml", tiny)
    command = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", cluster.jobs_url]
    command += ["--working-dir", ".", "--", "python", "-m", "jobs", "pipeline", "tiny.yaml"]
    ended = run([*command, f"storage={tmp_path}/runs", *SHORT], cwd=clone, env=cluster.env, timeout_s=1200)
    print(f"\nas a Ray job: {ended.seconds:.0f} s\n{ended.out}")
    assert ended.code == 0, ended.out + ended.err
    assert "succeeded" in ended.out
    said = [json.loads(line) for line in ended.out.splitlines() if line.startswith('{"time"')]
    assert {(one["run"], one["attempt"]) for one in said if "run" in one} == {("tiny", 1)}
    assert told_losses(tmp_path / "runs") == told_losses(reference)


def test_on_a_cluster_that_runs(
    cluster: Cluster, clone: Path, reference: Path, tiny: "dict[str, object]", tmp_path: Path
) -> None:
    config = write_config(tmp_path / "tiny.yaml", tiny)
    command = [sys.executable, "-m", "jobs", "pipeline", str(config), "cluster.address=auto"]
    env = {**cluster.env, "RAY_ADDRESS": cluster.address}  # several clusters may run here: `auto` is to find this one
    ended = run([*command, f"storage={tmp_path}/runs", *SHORT], cwd=clone, env=env, timeout_s=1200)
    print(f"\nwith cluster.address=auto: {ended.seconds:.0f} s\n{ended.out}")
    assert ended.code == 0, ended.out + ended.err
    assert told_losses(tmp_path / "runs") == told_losses(reference)
