"""Faults of a real cluster during a job submitted to it: its losses are those of a run that nobody disturbs."""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster import local
from cluster.local import LocalCluster, Node, nodes
from cluster.local.network import free_subnet, used_subnets, why_no_namespaces
from llmcore.records import attempt_numbers
from llmcore.storage import Folder
from tests.drivers import environment, wait_for
from tests.faults import assert_same_losses, sessions
from tests.servers import Store, s3_here, s3_store
from tests.tiny import tiny_stage, told_losses, write_config

pytest.importorskip("s3fs", reason="needs the extra: pip install llmcore[s3]")
pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.skipif(why_no_namespaces() is not None, reason=f"no namespaces: {why_no_namespaces()}"),
]
NUM_STEPS = 400
CHECKPOINT_EVERY = 10
STORAGE = Folder("s3://bucket/runs")
SOON_LOST = {"RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "3000"}
"""The suite's cluster misses a silent node after some 10 s, not after a minute."""


@dataclass(frozen=True)
class World:
    """A cluster of three nodes, an S3 server that they reach, and what finds both."""

    cluster: LocalCluster
    store: Store
    environment: dict[str, str]

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
    run: Folder
    following: "subprocess.Popen[bytes] | None" = None

    @classmethod
    def made(cls, world: World, command: str, folder: Path, config: dict[str, Any]) -> "Submitted":
        """Written down, but not begun."""
        path = write_config(folder / f"{config['name']}.yaml", {"storage": STORAGE.url, **config})
        return cls(world, command, path, STORAGE / config["name"])

    @property
    def log(self) -> Path:
        """What those who followed it saw."""
        return self.config.with_suffix(".log")

    def submit(self) -> "subprocess.Popen[bytes]":
        """`python -m cluster submit`, left running."""
        command = [sys.executable, "-m", "cluster", "submit", self.command, str(self.config)]
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
        print(f"reached {self.newest()}", file=sys.stderr)

    def newest(self) -> int:
        """The step of the newest complete checkpoint; 0 where there is none."""
        checkpoints = self.run / "checkpoints"
        for name in reversed(checkpoints.names()):
            manifest = checkpoints.find_json(f"{name}/manifest.json")
            if manifest is not None:
                return int(manifest["about"]["progress"]["step"])
        return 0

    def drivers(self) -> list[psutil.Process]:
        """The processes of the job on the head node, the entrypoint last."""
        found = []
        for process in nodes.processes(self.world.cluster.head.temp_dir):
            try:
                if process.cmdline()[1:4] == ["-m", "jobs", self.command]:
                    found.append(process)
            except psutil.Error:
                continue
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Three nodes, of which the head has the drivers alone, and rclone's S3 on the address of their bridge."""
    yield from _world(tmp_path_factory, "rclone", SOON_LOST)


def _world(factory: pytest.TempPathFactory, kind: str, added: dict[str, str]) -> Iterator[World]:
    from jobs.benchmarks.s3_server import free_port

    scratch, subnet = factory.mktemp("s3"), free_subnet(used_subnets())
    address = (subnet.replace(".0/24", ".1"), free_port())
    with pytest.MonkeyPatch.context() as patch, s3_here(address, scratch / "cache") as s3:
        patch.setenv("XDG_STATE_HOME", str(factory.mktemp("state")))
        told = environment(**s3, **added)
        cluster = local.up("faults", cpus_per_node=1, head_cpus=0, subnet=subnet, environment=told)
        try:
            with s3_store(kind, scratch, address) as store:
                yield World(cluster, store, told)
        finally:
            local.down("faults")


@pytest.fixture(scope="module")
def prepared(world: World, tiny: dict[str, Any], corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The tokens of the tiny corpus, both on S3."""
    for shard in corpus.iterdir():
        Folder("s3://bucket/corpus").write_bytes(shard.name, shard.read_bytes())
    prepare = tiny_stage(tiny, "prepare")
    prepare["sources"] = [prepare["sources"][0] | {"url": "s3://bucket/corpus"}]
    job = Submitted.made(world, "prepare", tmp_path_factory.mktemp("prepare"), {"name": "tiny.prepare", **prepare})
    assert job.submit().wait(300) == 0, job.log.read_text()
    print(job.log.read_text(), file=sys.stderr)


def _pretraining(world: World, tiny: dict[str, Any], folder: Path, name: str) -> Submitted:
    train = {"num_steps": NUM_STEPS, "validate_every": None, "checkpoint_every": CHECKPOINT_EVERY}
    config = {
        "name": name,
        "tokens": "tiny.prepare",
        "model": tiny_stage(tiny, "pretrain")["model"],
        "train": tiny_stage(tiny, "pretrain")["train"] | train,
        "workers": {"num_workers": 2, "cpus_per_worker": 0.75, "threads_per_worker": 1, "hang_s": 60.0},
    }
    return Submitted.made(world, "pretrain", folder, config)


def test_a_run_that_meets_every_fault_tells_the_losses_of_one_that_meets_none(
    world: World, tiny: dict[str, Any], prepared: None, tmp_path: Path
) -> None:
    calm, rough = (_pretraining(world, tiny, tmp_path, name) for name in ("calm", "rough"))
    began = time.monotonic()
    assert calm.submit().wait(300) == 0, calm.log.read_text()
    print(f"without faults {time.monotonic() - began:.0f} s\n{calm.log.read_text()}", file=sys.stderr)

    rough.submit()
    rough.reaches(20)
    world.lose(world.with_a_rank())
    rough.reaches(rough.newest() + 20)
    with local.cut(world.cluster, world.with_a_rank()):
        time.sleep(5.0)
    rough.reaches(rough.newest() + 20)
    with world.store.down():
        time.sleep(5.0)
    rough.reaches(rough.newest() + 20)
    for driver in rough.drivers():
        driver.kill()
    rough.reaches(rough.newest() + 20)
    world.lose(world.cluster.head)
    assert rough.following is not None
    assert rough.following.wait(300) == 0, rough.log.read_text()
    print(f"with five faults {time.monotonic() - began:.0f} s\n{rough.log.read_text()}", file=sys.stderr)

    assert attempt_numbers(rough.run) == [1, 2, 3]
    print([sessions(rough.run, number) for number in (1, 2, 3)], file=sys.stderr)
    told, due = (told_losses(STORAGE.url, job.run.name) for job in (rough, calm))
    assert_same_losses(told, due, within=1e-6, num_steps=NUM_STEPS)
