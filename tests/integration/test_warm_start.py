"""Workers of a local Ray begin with everything imported; one that cannot begin so begins as Ray would have it."""

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.beginnings import began
from tests.drivers import ROOT, environment

if TYPE_CHECKING:
    from cluster.connect import Session


HEAVY = ["torch", "transformers", "deepspeed", "llmcore.train.fit"]


def _remote(**options: Any) -> Any:
    import ray

    return ray.remote(num_cpus=0.1, max_calls=1, **options)(began)


def test_a_worker_is_forked_with_everything_imported(ray_session: "Session") -> None:
    import ray

    one, other = ray.get([_remote().remote(HEAVY), _remote().remote(HEAVY)])
    for found in (one, other):
        assert found["modules"] == HEAVY and "warm.py --serve" in found["parent"]
        assert found["job"] == ray.get_runtime_context().get_job_id()
        assert found["niceness"] == 15, "Ray's workers leave the driver its time"
    assert one["seed"] != other["seed"]


def test_what_a_task_asks_for_in_its_environment_it_gets(ray_session: "Session") -> None:
    import ray

    found = ray.get(_remote(runtime_env={"env_vars": {"GIVEN": "so"}}).remote(HEAVY))
    assert found["given"] == "so" and found["modules"] == HEAVY


def test_without_a_server_a_worker_starts_cold(ray_session: "Session") -> None:
    import ray

    found = ray.get(_remote(runtime_env={"env_vars": {"LLMCORE_WARM_START": "nobody"}}).remote(HEAVY))
    assert found["modules"] == [] and "warm.py" not in found["parent"]


def test_a_worker_that_is_killed_is_seen_to_be_and_starts_again(ray_session: "Session") -> None:
    import ray

    class Actor:
        def pid(self) -> int:
            return os.getpid()

    actor = ray.remote(num_cpus=0.1, max_restarts=1, max_task_retries=1)(Actor).remote()
    first = ray.get(actor.pid.remote())
    os.kill(first, signal.SIGKILL)
    assert ray.get(actor.pid.remote(), timeout=60) != first
    ray.kill(actor)


def test_the_servers_end_with_their_driver() -> None:
    script = "from cluster.warm import WarmStart; import time; "
    script += "warm = WarmStart(); print(warm._server.pid, flush=True); time.sleep(60)"
    command = [sys.executable, "-c", script]
    driver = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    server = psutil.Process(int(driver.stdout.readline()))
    driver.kill()
    driver.wait()
    deadline = time.monotonic() + 60
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("broken", [b"", b"\x00\x00\x00\x05ab"])
def test_a_server_outlives_who_breaks_off(ray_session: "Session", broken: bytes) -> None:
    import socket

    import ray

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.connect(f"\0{os.environ['LLMCORE_WARM_START']}")
        asking.sendall(broken)
    assert ray.get(_remote().remote(HEAVY))["modules"] == HEAVY


def test_there_is_no_dashboard_that_nobody_looks_at(ray_session: "Session") -> None:
    from ray._private.worker import get_dashboard_url

    assert not get_dashboard_url()
