"""Faults done to pre-training: what comes of it is what would have come without them, row for row and loss for loss."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from llmcore.records import failures_of
from tests.clusters import LocalCluster, local_cluster
from tests.drivers import ray_folder, run_jobs, wait_for
from tests.faults import CHECKPOINT_EVERY, NUM_STEPS, Training, assert_same_losses
from tests.tiny import tiny_stage, write_config

pytestmark = pytest.mark.timeout(1200)
WORKERS = {"num_workers": 3, "cpus_per_worker": 0.75}
"""One fits on the head node, two on the other, and what reads beside them."""
HANG_S = 10.0
ENDED_WITHIN_S = 60.0
"""Of a fault that ends the group or the run: its bound, and what a busy machine takes to start anew."""

Begin = Callable[..., Training]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, tiny: dict[str, Any], one_ray: dict[str, str]) -> Path:
    """A storage with the tokens of the tiny corpus."""
    folder = tmp_path_factory.mktemp("prepared")
    config = {
        "name": "tiny.prepare",
        "storage": str(folder / "runs"),
        "cluster": tiny["cluster"],
        **tiny_stage(tiny, "prepare"),
    }
    ended = run_jobs("prepare", str(write_config(folder / "prepare.yaml", config)), cwd=folder, **one_ray)
    assert ended.code == 0, ended.out + ended.err
    return folder / "runs"


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two nodes: one CPU with the driver, two CPUs on the other."""
    with local_cluster(1, 2) as started:
        yield started


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, tiny: dict[str, Any], prepared: Path, cluster: LocalCluster
) -> list[dict[str, Any]]:
    """What a run tells that nobody disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    training = Training.begin(folder, tiny, prepared, environment=cluster.environment, workers=WORKERS)
    ended = training.to_its_end()
    assert ended.code == 0, ended.out + ended.err
    print(f"undisturbed: {ended.seconds:.0f} s")
    return training.losses()


@pytest.fixture
def begin(tmp_path: Path, tiny: dict[str, Any], prepared: Path, cluster: LocalCluster) -> Begin:
    """Begins a training on the cluster."""

    def training(*, workers: dict[str, Any] | None = None, **options: Any) -> Training:
        given = {"environment": cluster.environment, "workers": WORKERS | (workers or {})}
        return Training.begin(tmp_path, tiny, prepared, **given, **options)

    return training


def _kill_worker(cluster: LocalCluster, driver: "subprocess.Popen[bytes]", rng: random.Random) -> None:
    rng.choice(cluster.workers()).kill()


def _kill_driver(cluster: LocalCluster, driver: "subprocess.Popen[bytes]", rng: random.Random) -> None:
    driver.kill()


def _kill_node(cluster: LocalCluster, driver: "subprocess.Popen[bytes]", rng: random.Random) -> None:
    cluster.lose(cluster.nodes[-1])
    cluster.add_node(2)


KILLS = {"worker": _kill_worker, "driver": _kill_driver, "node": _kill_node}
PROVEN = [(kind, seed) for seed in range(1, 8) for kind in KILLS][:20]


def _killed(kind: str, seed: int, begin: Begin, cluster: LocalCluster, undisturbed: list[dict[str, Any]]) -> None:
    """A run with one SIGKILL at a random step."""
    rng = random.Random(f"{kind} {seed}")
    training = begin()
    driver = training.start()
    training.reaches(rng.randrange(CHECKPOINT_EVERY, NUM_STEPS - 5 * CHECKPOINT_EVERY), driver)
    time.sleep(rng.uniform(0.0, 0.3))
    KILLS[kind](cluster, driver, rng)
    code = driver.wait()
    if kind == "driver":
        ended = training.to_its_end()
        assert ended.code == 0, ended.out + ended.err
        sessions = [*training.sessions(1), *training.sessions(2)]
    else:
        assert code == 0, training.log.read_text()
        assert len(failures_of(training.run / "attempts/01")) == 1
        end = training.end_of(1)
        assert end is not None and end["result"]["num_restarts"] == 1
        sessions = training.sessions(1)
    assert len(sessions) == 2 and 0 == sessions[0] < sessions[1] < NUM_STEPS
    assert_same_losses(training.losses(), undisturbed, within=1e-6)
    training.assert_nothing_torn()
    training.assert_the_ledger_adds_up()


@pytest.mark.parametrize("kind", KILLS)
def test_a_kill_leaves_no_trace(
    kind: str, begin: Begin, cluster: LocalCluster, undisturbed: list[dict[str, Any]]
) -> None:
    _killed(kind, 0, begin, cluster, undisturbed)


@pytest.mark.proof
@pytest.mark.proof_faults
@pytest.mark.parametrize(("kind", "seed"), PROVEN)
def test_twenty_kills_leave_no_trace(
    kind: str, seed: int, begin: Begin, cluster: LocalCluster, undisturbed: list[dict[str, Any]]
) -> None:
    _killed(kind, seed, begin, cluster, undisturbed)


def _assert_saved_and_left(training: Training, driver: "subprocess.Popen[bytes]", asked: float) -> int:
    """It has ended as one who was asked to; returns the step that it saved."""
    assert driver.wait(ENDED_WITHIN_S) == 130, training.log.read_text()
    print(f"left {time.monotonic() - asked:.1f} s after it was asked to")
    end, step = training.end_of(1), training.newest()["step"]
    assert end is not None and end["status"] == "interrupted"
    assert f"the checkpoint of step {step} is saved" in training.log.read_text()
    assert [row["step"] for row in training.losses()][-1] == step < NUM_STEPS
    return int(step)


def test_sigterm_saves_the_step_and_the_next_start_goes_on_from_it(
    begin: Begin, undisturbed: list[dict[str, Any]]
) -> None:
    training = begin()
    driver = training.start()
    training.reaches(CHECKPOINT_EVERY, driver)
    driver.terminate()
    step = _assert_saved_and_left(training, driver, time.monotonic())
    ended = training.to_its_end()
    assert ended.code == 0, ended.out + ended.err
    assert training.sessions(2) == [step], "nothing is done again"
    assert_same_losses(training.losses(), undisturbed, within=1e-6)


def test_ctrl_c_in_a_terminal_saves_the_step_too(tmp_path: Path, tiny: dict[str, Any], prepared: Path) -> None:
    with ray_folder() as ray:
        training = Training.begin(tmp_path, tiny, prepared, environment={"RAY_TMPDIR": ray}, workers={"num_workers": 2})
        driver = training.start(own_session=True)
        training.reaches(CHECKPOINT_EVERY, driver)
        os.killpg(driver.pid, signal.SIGINT)  # a terminal sends it to the whole group
        _assert_saved_and_left(training, driver, time.monotonic())


def test_a_second_signal_ends_at_once(begin: Begin, cluster: LocalCluster) -> None:
    training = begin()
    driver = training.start()
    training.reaches(CHECKPOINT_EVERY, driver)
    stopped = cluster.workers()
    for worker in stopped:
        worker.suspend()  # so that they cannot do what they are asked to
    driver.terminate()
    time.sleep(1.0)
    assert driver.poll() is None, "it waits for its workers"
    driver.terminate()
    again = time.monotonic()
    assert driver.wait(ENDED_WITHIN_S) == 130, training.log.read_text()
    print(f"ended {time.monotonic() - again:.1f} s after the second signal")
    assert "interrupted by SIGTERM" in training.log.read_text()
    _, alive = psutil.wait_procs(stopped, timeout=ENDED_WITHIN_S)
    assert not alive, "the cluster has its places back"


def test_a_stopped_rank_is_ended_within_the_bound_and_the_group_starts_anew(
    begin: Begin, cluster: LocalCluster, undisturbed: list[dict[str, Any]]
) -> None:
    training = begin(workers={"hang_s": HANG_S})
    driver = training.start()
    training.reaches(2 * CHECKPOINT_EVERY, driver)
    stopped = cluster.workers()[-1]
    stopped.suspend()
    since, records = time.monotonic(), training.run / "attempts/01"
    assert wait_for(lambda: bool(failures_of(records)), driver, HANG_S + ENDED_WITHIN_S), training.log.read_text()
    print(f"ended {time.monotonic() - since:.1f} s after it was stopped, with a bound of {HANG_S:.0f} s")
    (failure,) = failures_of(records)
    (reason,) = failure["ranks"].values()
    assert "does not answer" in reason
    assert driver.wait() == 0, training.log.read_text()
    assert not stopped.is_running()
    assert_same_losses(training.losses(), undisturbed, within=1e-6)


def test_a_rank_that_hangs_in_its_storage_is_named_with_its_stack(
    begin: Begin, undisturbed: list[dict[str, Any]]
) -> None:
    training = begin(workers={"hang_s": HANG_S, "max_failures": 0})
    driver = training.start()
    training.reaches(CHECKPOINT_EVERY, driver)
    blocking = Path(training.run.url, "checkpoints/step-00000001-attempt-01/manifest.json")
    made = training.folder / "made"
    made.mkdir()
    os.mkfifo(made / blocking.name)  # who opens it to read waits for a writer; rank 0 looks at all when it prunes
    made.rename(blocking.parent)  # at once: a folder without one is pruned unread
    since = time.monotonic()
    assert driver.wait(HANG_S + ENDED_WITHIN_S) == 1
    print(f"ended {time.monotonic() - since:.1f} s after, with a bound of {HANG_S:.0f} s")
    said = training.log.read_text()
    assert "error: rank 0: no step has ended for" in said
    assert "in prune" in said and "rank 1" not in said, said
    end = training.end_of(1)
    assert end is not None and "in prune" in end["error"]
    blocking.unlink()
    ended = training.to_its_end()
    assert ended.code == 0, ended.out + ended.err
    assert_same_losses(training.losses(), undisturbed, within=1e-6)


def test_of_two_starts_exactly_one_trains(begin: Begin, undisturbed: list[dict[str, Any]]) -> None:
    training = begin()
    drivers = [training.start(), training.start()]
    codes = [driver.wait() for driver in drivers]
    assert sorted(codes) == [0, 2], training.log.read_text()
    winner = drivers[codes.index(0)]
    assert f"is alive (host {os.uname().nodename}, process {winner.pid}, attempt 01)" in training.log.read_text()
    assert (training.run / "attempts").names() == ["01"]
    assert_same_losses(training.losses(), undisturbed, within=1e-6)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_ends_the_run_with_one_message_and_no_torn_checkpoint(
    begin: Begin, small_disk: Path, undisturbed: list[dict[str, Any]]
) -> None:
    training = begin(storage=small_disk / "runs", workers={"max_failures": 0})
    driver = training.start()
    training.reaches(2 * CHECKPOINT_EVERY, driver)
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(1 << 12))
    assert driver.wait(ENDED_WITHIN_S) == 1, training.log.read_text()
    errors = [line for line in training.log.read_text().splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and str(small_disk) in errors[0] and "No space left on device" in errors[0], errors
    training.assert_nothing_torn()
    ballast.unlink()
    ended = training.to_its_end()
    assert ended.code == 0, ended.out + ended.err
    assert_same_losses(training.losses(), undisturbed, within=1e-6)


def test_elastic_workers_shrink_with_a_lost_node_and_grow_with_a_new_one(
    begin: Begin, cluster: LocalCluster, tmp_path: Path
) -> None:
    workers = {"elastic": [1, 3], "cpus_per_worker": 1, "resize_check_s": 2.0}
    # Many small micro batches: a step takes long enough, so that not too many pass while nodes come and go.
    long = {"num_steps": 20_000, "global_batch_size": 48, "micro_batch_size": 2, "checkpoint_every": 5}
    training = begin(workers=workers, **long)
    driver = training.start()

    def has(world_size: int) -> Callable[[], bool]:
        since = training.newest()["step"]
        return lambda: training.newest()["world_size"] == world_size and training.newest()["step"] > since

    assert wait_for(has(3), driver), training.log.read_text()
    cluster.lose(cluster.nodes[-1])
    lost = time.monotonic()
    assert wait_for(has(1), driver), training.log.read_text()
    shrunk = time.monotonic()
    cluster.add_node(2)
    assert wait_for(has(3), driver), training.log.read_text()
    print(f"shrank within {shrunk - lost:.0f} s, grew within {time.monotonic() - shrunk:.0f} s")
    driver.terminate()
    assert driver.wait(ENDED_WITHIN_S) == 130, training.log.read_text()
    last = training.newest()["step"]
    even = begin(workers=WORKERS, storage=tmp_path / "even", stop_after=last, **long)
    ended = even.to_its_end()
    assert ended.code == 0, ended.out + ended.err
    assert_same_losses(training.losses(), even.losses(), within=1e-4, num_steps=last, global_batch=48)
