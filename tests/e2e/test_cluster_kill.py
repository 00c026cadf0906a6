"""A driver that is killed takes its local Ray with it."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

DRIVER = """
import subprocess, time
from cluster.connect import connect
from jobs.runtime.interrupt import interrupt_on_sigterm
from llmcore.config.common import ClusterSettings

interrupt_on_sigterm()  # as `python -m jobs` does
with connect(ClusterSettings(num_cpus=2)) as session:
    import ray

    @ray.remote(num_cpus=0.5)
    class Worker:
        def spin(self):
            while True:
                sum(range(1_000_000))

        def start_another(self):
            subprocess.run(["sleep", "600"])

    workers = [Worker.remote(), Worker.remote()]
    work = [workers[0].spin.remote(), workers[1].start_another.remote()]
    ray.wait(work, timeout=2)
    print("ready", flush=True)
    LAST
"""
GONE_WITHIN_S = 10.0


def start_driver(last: str) -> tuple["subprocess.Popen[str]", list[psutil.Process]]:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER.replace("LAST", last)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert driver.stdout is not None
    assert driver.stdout.readline().strip() == "ready"
    return driver, psutil.Process(driver.pid).children(recursive=True)


@pytest.mark.parametrize("end", ["killed", "killed with its group", "told to end", "ended by itself"])
def test_nothing_of_a_local_ray_outlives_its_driver(end: str) -> None:
    last = {"ended by itself": "pass", "told to end": "ray.get(work)"}.get(end, "time.sleep(600)")
    driver, processes = start_driver(last)
    assert len(processes) > 10
    if end == "killed":
        os.kill(driver.pid, signal.SIGKILL)
    elif end == "killed with its group":
        os.killpg(driver.pid, signal.SIGKILL)
    elif end == "told to end":  # while it waits for a result of Ray
        driver.terminate()
    driver.wait(timeout=30)
    ended = time.monotonic()
    _, alive = psutil.wait_procs(processes, timeout=GONE_WITHIN_S)
    alive = [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    names = [process.name() for process in alive]
    for process in alive:
        process.kill()
    assert not names, f"still alive after {GONE_WITHIN_S} s: {names}"
    print(f"{end}: all {len(processes)} processes gone after {time.monotonic() - ended:.1f} s")
