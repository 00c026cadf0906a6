"""Faults of a real cluster during a job submitted to it: its losses are those of a run that nobody disturbs."""

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cluster import local
from cluster.local import nodes
from cluster.local.network import why_no_namespaces
from llmcore.records import attempt_folder, attempt_numbers, newest_result, rank_errors_of, read_metrics
from llmcore.storage import Folder
from tests.drivers import wait_for
from tests.faults import assert_same_losses, sessions, timeless_rows
from tests.submitted import STORAGE, Submitted, World, submitted_to
from tests.tiny import NUM_STEPS as TINY_STEPS
from tests.tiny import tiny_stage, told_losses

pytest.importorskip("s3fs", reason="needs the extra: pip install llmcore[s3]")
pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.skipif(why_no_namespaces() is not None, reason=f"no namespaces: {why_no_namespaces()}"),
]
NUM_STEPS = 400
CHECKPOINT_EVERY = 10
WORKERS = {"num_workers": 2, "cpus_per_worker": 0.75, "threads_per_worker": 1, "hang_s": 60.0}
"""One on each worker node."""
ENDED_WITHIN_S = 1200.0
SEEN_WITHIN_S = 10.0
"""In which a node that was cut off hears that it is counted as lost."""
OF_THE_WOKEN = ("/attempts/01/errors/", "/attempts/01/metrics/part-", ".llmcore1")
"""What a rank that woke up too late may write: why it ended, and rows of steps that were taken again, in own files."""
SOON_LOST = {"RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "3000"}
"""The suite's cluster misses a silent node after some 10 s, not after a minute."""


def _kill_node(world: World, job: Submitted) -> None:
    world.lose(world.with_a_rank())


def _kill_driver(world: World, job: Submitted) -> None:
    for driver in world.drivers(job.command):
        driver.kill()


def _cut_node(world: World, job: Submitted) -> None:
    with local.cut(world.cluster, world.with_a_rank()):
        time.sleep(world.outage_s)
    # What counted it as lost has it leave when it hears of it: it is replaced, if so.
    deadline = time.monotonic() + SEEN_WITHIN_S
    while time.monotonic() < deadline and not local.restore(world.cluster, world.environment):
        time.sleep(1.0)


def _stop_store(world: World, job: Submitted) -> None:
    with world.store.down():
        time.sleep(world.outage_s)


def _kill_head(world: World, job: Submitted) -> None:
    world.lose(world.cluster.head)


FAULTS: dict[str, Callable[[World, Submitted], None]] = {
    "node killed": _kill_node,
    "network cut": _cut_node,
    "store down": _stop_store,
    "driver killed": _kill_driver,
    "head killed": _kill_head,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Three nodes, of which the head has the drivers alone, and rclone's S3 on the address of their bridge."""
    yield from submitted_to(tmp_path_factory, "rclone", SOON_LOST, outage_s=5.0)


@pytest.fixture(scope="module")
def real_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The same with Ceph's S3, with Ray's own bounds, and with outages of a minute."""
    yield from submitted_to(tmp_path_factory, "ceph", {}, outage_s=60.0)


@pytest.fixture(scope="module")
def prepared(world: World, tiny: dict[str, Any], corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The tokens of the tiny corpus, both on S3."""
    prepare = _with_corpus_on_s3(tiny_stage(tiny, "prepare"), corpus)
    job = Submitted.made(world, "prepare", tmp_path_factory.mktemp("prepare"), {"name": "tiny.prepare", **prepare})
    assert job.submit().wait(ENDED_WITHIN_S) == 0, job.log.read_text()


def _with_corpus_on_s3(prepare: dict[str, Any], corpus: Path) -> dict[str, Any]:
    for shard in corpus.iterdir():
        Folder("s3://bucket/corpus").write_bytes(shard.name, shard.read_bytes())
    return prepare | {"sources": [prepare["sources"][0] | {"url": "s3://bucket/corpus"}]}


def _pretraining(world: World, tiny: dict[str, Any], folder: Path, name: str, num_workers: int = 2) -> Submitted:
    train = {"num_steps": NUM_STEPS, "validate_every": None, "checkpoint_every": CHECKPOINT_EVERY}
    config = {
        "name": name,
        "tokens": "tiny.prepare",
        "model": tiny_stage(tiny, "pretrain")["model"],
        "train": tiny_stage(tiny, "pretrain")["train"] | train,
        "workers": WORKERS | {"num_workers": num_workers},
    }
    return Submitted.made(world, "pretrain", folder, config)


@pytest.mark.proof
@pytest.mark.proof_cluster
def test_a_run_that_meets_every_fault_tells_the_losses_of_one_that_meets_none(
    world: World, tiny: dict[str, Any], prepared: None, tmp_path: Path
) -> None:
    calm, rough = (_pretraining(world, tiny, tmp_path, name) for name in ("calm", "rough"))
    began = time.monotonic()
    assert calm.submit().wait(ENDED_WITHIN_S) == 0, calm.log.read_text()
    print(f"without faults {time.monotonic() - began:.0f} s", file=sys.stderr)
    began = time.monotonic()
    rough.submit()
    for name, strike in FAULTS.items():
        rough.reaches(rough.newest() + 2 * CHECKPOINT_EVERY)
        print(f"{name} after step {rough.newest()}, {time.monotonic() - began:.0f} s", file=sys.stderr)
        strike(world, rough)
    assert rough.following is not None
    assert rough.following.wait(ENDED_WITHIN_S) == 0, rough.log.read_text()
    print(f"with {len(FAULTS)} faults {time.monotonic() - began:.0f} s\n{rough.log.read_text()}", file=sys.stderr)
    assert attempt_numbers(rough.run) == [1, 2, 3], "a driver and a head were lost"
    print([sessions(rough.run, number) for number in (1, 2, 3)], file=sys.stderr)
    told, due = (told_losses(STORAGE.url, job.run.name) for job in (rough, calm))
    assert_same_losses(told, due, within=1e-6, num_steps=NUM_STEPS)


@pytest.mark.proof
@pytest.mark.proof_cluster
def test_a_rank_that_wakes_up_after_its_node_was_lost_changes_nothing_that_readers_see(
    world: World, tiny: dict[str, Any], prepared: None, tmp_path: Path
) -> None:
    job = _pretraining(world, tiny, tmp_path, "paused", num_workers=1)
    job.submit()
    job.reaches(2 * CHECKPOINT_EVERY)
    node = world.with_a_rank()
    stopped = nodes.processes(node.temp_dir)
    try:
        for process in stopped:
            process.suspend()
        assert job.following is not None
        assert job.following.wait(ENDED_WITHIN_S) == 0, job.log.read_text()
        before = _seen(job.run)
        [rank] = [process for process in stopped if "RayTrainWorker" in " ".join(process.cmdline())]
        rank.resume()
        deadline = time.monotonic() + ENDED_WITHIN_S
        while not _replaced(job.run) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert "started again, as those of session 2, while these of session 1 counted as lost" in _replaced(job.run)
    finally:
        world.lose(node)
    assert _seen(job.run) == before
    assert [row["step"] for row in read_metrics(job.run) if "loss" in row] == list(range(1, NUM_STEPS + 1))


def _seen(run: Folder) -> dict[str, Any]:
    """What readers see of a run: its rows, and all that stands under a name they know."""
    found = run.fs.find(run.path, detail=True).items()
    files = {name: told["LastModified"] for name, told in found if not any(part in name for part in OF_THE_WOKEN)}
    return {"rows": timeless_rows(run), "files": files, "result": newest_result(run)}


def _replaced(run: Folder) -> str:
    """What a rank said that ended since it is no longer the run's writer."""
    errors = rank_errors_of(attempt_folder(run, 1))
    return next((error["message"] for error in errors if error["error"] == "SupersededError"), "")


def _pipeline(world: World, tiny: dict[str, Any], corpus: Path, folder: Path, name: str) -> Submitted:
    """The whole tiny pipeline, with a storage of its own."""
    stages = dict(tiny["stages"])
    stages["prepare"] = _with_corpus_on_s3(stages["prepare"], corpus)
    stages["pretrain"] = stages["pretrain"] | {"workers": WORKERS}
    stages["tune"] = stages["tune"] | {"finetune": stages["tune"]["finetune"] | {"workers": WORKERS}}
    config = {"name": "tiny", "storage": f"s3://bucket/{name}", "stages": stages}
    return Submitted.made(world, "pipeline", folder, config)


def _has_any(folder: Folder) -> bool:
    return bool(folder.names())


def _finished(storage: Folder) -> dict[str, str]:
    """When each file was written that tells of a trial or a judgement that has ended: none may be written again."""
    kept = ("/trial.json", "/end.json", "/metrics.json")
    found = storage.fs.find(storage.path, detail=True)
    return {name: str(told["LastModified"]) for name, told in found.items() if name.endswith(kept)}


@pytest.fixture(scope="module")
def calm_pipeline(
    real_world: World, tiny: dict[str, Any], corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Submitted:
    """The pipeline without faults, submitted twice: the second follows the first."""
    job = _pipeline(real_world, tiny, corpus, tmp_path_factory.mktemp("calm"), "calm")
    first, second = job.submit(), job.submit()
    assert (first.wait(ENDED_WITHIN_S), second.wait(ENDED_WITHIN_S)) == (0, 0), job.log.read_text()
    print(job.log.read_text(), file=sys.stderr)
    assert attempt_numbers(job.storage / "tiny") == [1], "it ran once"
    return job


@pytest.mark.proof
@pytest.mark.proof_cluster
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_pretraining_and_one_in_the_search_lose_and_repeat_nothing(
    fault: str, real_world: World, calm_pipeline: Submitted, tiny: dict[str, Any], corpus: Path, tmp_path: Path
) -> None:
    name = fault.replace(" ", "-")
    job = _pipeline(real_world, tiny, corpus, tmp_path, name)
    storage, began = job.storage, time.monotonic()
    driver = job.submit()
    for moment in ("tiny.pretrain/checkpoints", "tiny.tune/trials/trial-001/checkpoints"):
        assert wait_for(partial(_has_any, storage / moment), driver, ENDED_WITHIN_S), job.log.read_text()
        finished = _finished(storage)
        FAULTS[fault](real_world, job)
    assert driver.wait(ENDED_WITHIN_S) == 0, job.log.read_text()
    print(f"{fault}, twice: {time.monotonic() - began:.0f} s\n{job.log.read_text()}", file=sys.stderr)
    assert finished.items() <= _finished(storage).items(), "what had ended is as it was"
    told, due = told_losses(storage.url), told_losses(calm_pipeline.storage.url)
    assert [row["step"] for row in told] == [row["step"] for row in due]
    assert_same_losses(told, due, within=1e-6, num_steps=TINY_STEPS)
    result = newest_result(storage / "tiny.tune")
    assert result is not None and sum(result["statuses"].values()) == 2, "each trial is there, once"
    assert len((storage / "register").walk()) == len((calm_pipeline.storage / "register").walk()), "as many looks"
