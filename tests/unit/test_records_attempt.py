"""One writer: what begins, what is refused, and what is taken over from the dead."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmcore.config.base import Section, flagged, free, identity
from llmcore.config.common import JobSettings
from llmcore.errors import InterruptedRunError, RunChangedError, RunHeldError, StorageError
from llmcore.records import TIMING, Attempt, Timing, begin_attempt, finished_result, folder_of
from llmcore.storage import Folder

FAST = Timing(beat_s=0.05, stale_s=0.5, drained_s=0.15)


class TrainPart(Section):
    seed: int = identity(0, description="Seed.")
    betas: tuple[float, float] = identity((0.9, 0.95), description="A pair: JSON has lists.")
    zero_stage: int = flagged(2, description="Stage.")
    log_every: int = free(10, description="Steps.")


class Config(JobSettings):
    train: TrainPart = identity(TrainPart, description="Training.")


def config(name: str = "tiny", **train: Any) -> Config:
    return Config(name=name, train=TrainPart(**train))


def begin(storage: Folder, settings: Config | None = None, **more: Any) -> Attempt:
    given = {"kind": "pretrain", "step_version": 1, "inputs": {"tokens": "ab12"}, "timing": FAST, "say": lambda _: None}
    return begin_attempt(storage, settings or config(), **(given | more))


def result_of(storage: Folder, settings: Config | None = None, **more: Any) -> dict[str, Any] | None:
    given: dict[str, Any] = {"kind": "pretrain", "step_version": 1, "inputs": {"tokens": "ab12"}}
    return finished_result(storage, settings or config(), **(given | more))


@pytest.fixture
def storage(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "runs"))


@pytest.fixture
def holder(storage: Folder) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process that has begun the run, and lives on."""
    code = (
        "import sys, time; sys.path[:0] = sys.argv[2:]\n"
        "from test_records_attempt import begin, Folder\n"
        "attempt = begin(Folder(sys.argv[1])); print('begun', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, storage.url, str(Path(__file__).parent), *sys.path], stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"begun\n"
    yield process
    process.kill()
    process.communicate()


def test_a_run_leaves_its_records(storage: Folder) -> None:
    with begin(storage, config(seed=3), parents=["tiny.prepare"]) as attempt:
        attempt.result["model"] = "tiny/model"
        attempt.ledger.count(tokens=100)
        assert attempt.number == 1 and attempt.accepted == []
        assert folder_of(json.loads(json.dumps(attempt.ref()))) == attempt.folder
    run = storage / "tiny"
    record = run.read_json("run.json")
    assert record["kind"] == "pretrain" and record["parents"] == ["tiny.prepare"]
    assert record["identity"] == {"train": {"seed": 3, "betas": [0.9, 0.95]}}
    assert record["flagged"] == {"train": {"zero_stage": 2}}
    assert {"python", "ray", "torch", "llmcore"} <= set(record["versions"])
    assert yaml.safe_load(run.read_text("config.yaml")) == config(seed=3).model_dump(mode="json")
    names = ["attempts/01/begin.json", "attempts/01/cost.json", "attempts/01/end.json", "attempts/01/heartbeat.json"]
    assert run.walk() == [*names, "config.yaml", "run.json"]
    begun = run.read_json("attempts/01/begin.json")
    assert (begun["host"], begun["pid"], begun["attempt"]) == (socket.gethostname(), os.getpid(), 1)
    end = run.read_json("attempts/01/end.json")
    assert (end["status"], end["error"], end["result"]) == ("succeeded", None, {"model": "tiny/model"})
    cost = run.read_json("attempts/01/cost.json")
    assert cost["tokens"] == 100 and cost["seconds"]["idle"] == pytest.approx(end["seconds"], abs=0.01)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (InterruptedRunError("asked to stop"), "interrupted"),
        (StorageError("full"), "failed"),
        (SystemExit(3), "failed"),
    ],
)
def test_however_it_ends_is_recorded_and_not_swallowed(storage: Folder, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)), begin(storage) as attempt:
        raise error
    end = attempt.folder.read_json("end.json")
    assert end["status"] == status and end["error"].startswith(f"{type(error).__name__}: ")
    assert result_of(storage) is None
    beat = attempt.folder.read_bytes("heartbeat.json")
    time.sleep(FAST.beat_s * 3)
    assert attempt.folder.read_bytes("heartbeat.json") == beat


def test_an_end_that_cannot_be_recorded_does_not_hide_why_it_failed(storage: Folder) -> None:
    with pytest.raises(ZeroDivisionError) as caught, begin(storage) as attempt:
        attempt.result["unwritable"] = object()
        _ = 1 // 0
    assert "could not be recorded" in caught.value.__notes__[0]
    with pytest.raises(TypeError), begin(storage) as attempt:
        attempt.result["unwritable"] = object()
    assert result_of(storage) is None


def test_finished_work_is_found_and_unfinished_is_not(storage: Folder) -> None:
    assert result_of(storage) is None
    with begin(storage) as attempt:
        assert result_of(storage) is None
        attempt.result["loss"] = 1.5
    assert result_of(storage) == {"loss": 1.5}
    assert result_of(storage, config(log_every=1)) == {"loss": 1.5}
    assert result_of(storage, config(seed=1)) is None
    assert result_of(storage, config(zero_stage=3)) is None
    assert result_of(storage, inputs={"tokens": "cd34"}) is None
    assert result_of(storage, step_version=2) is None
    assert result_of(storage, kind="tune") is None
    (storage / "tiny" / "attempts" / "01").write_bytes("end.json", b'{"status": "succee')
    assert result_of(storage) is None


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"settings": config(seed=7)}, r"train\.seed: 0 -> 7"),
        ({"settings": config(betas=(0.9, 0.99))}, r"train\.betas\.1: 0\.95 -> 0\.99"),
        ({"inputs": {"tokens": "cd34"}}, r'inputs\.tokens: "ab12" -> "cd34"'),
        ({"step_version": 2}, r"step_version: 1 -> 2"),
        ({"kind": "finetune"}, r'kind: "pretrain" -> "finetune"'),
    ],
)
def test_another_identity_is_refused_with_the_difference(storage: Folder, more: dict[str, Any], says: str) -> None:
    with begin(storage):
        pass
    with pytest.raises(RunChangedError, match=says) as caught:
        begin(storage, allow_changes=True, **more)
    assert "another `name`" in str(caught.value) and caught.value.exit_code == 2
    assert (storage / "tiny" / "attempts").names() == ["01"]


def test_a_flagged_change_needs_the_flag_once(storage: Folder) -> None:
    with begin(storage):
        pass
    with pytest.raises(RunChangedError, match=r"train\.zero_stage: 2 -> 3[^$]*--allow-changes"):
        begin(storage, config(zero_stage=3))
    with begin(storage, config(zero_stage=3), allow_changes=True) as attempt:
        assert attempt.number == 2
    assert attempt.folder.read_json("begin.json")["changes"] == ["train.zero_stage: 2 -> 3"]
    with begin(storage, config(zero_stage=3, log_every=1)) as attempt:
        assert attempt.number == 3
    with pytest.raises(RunChangedError, match=r"3 -> 2"):
        begin(storage)


def test_a_damaged_run_record_is_said_to_be_damaged(storage: Folder) -> None:
    (storage / "tiny").write_bytes("run.json", b'{"kind"')
    with pytest.raises(StorageError, match=r"run\.json is damaged"):
        begin(storage)


def test_checkpoints_are_accepted_once_the_number_is_taken(storage: Folder) -> None:
    def accept(run: Folder) -> list[str]:
        assert run.exists("attempts/01/begin.json") and run.exists("attempts/01/heartbeat.json")
        return ["step-00000100-attempt-01"]

    with begin(storage, accept=accept) as attempt:
        assert attempt.accepted == ["step-00000100-attempt-01"]
        assert attempt.folder.read_json("begin.json")["accepted"] == attempt.accepted


def test_what_a_paused_attempt_writes_when_it_wakes_up_is_accepted_by_no_later_one(storage: Folder) -> None:
    complete: list[str] = []

    def start(*written: str) -> list[str]:
        with begin(storage, accept=lambda _: sorted(complete)) as attempt:
            complete.extend(written)
            return attempt.accepted

    assert start("step-00000010-attempt-01", "step-00000020-attempt-01") == []
    assert start("step-00000030-attempt-02") == ["step-00000010-attempt-01", "step-00000020-attempt-01"]
    complete.append("step-00000040-attempt-01")  # the first attempt stood still until now
    complete.remove("step-00000010-attempt-01")
    expected = ["step-00000020-attempt-01", "step-00000030-attempt-02"]
    assert start() == expected
    with pytest.raises(StorageError):  # one that dies before it has accepted anything hides nothing
        begin(storage, accept=fail)
    assert start() == expected


def fail(run: Folder) -> list[str]:
    raise StorageError("gone")


def test_an_attempt_that_was_overtaken_is_told_so(storage: Folder) -> None:
    with begin(storage) as first:
        first.check_newest()
        (storage / "tiny").write_json("attempts/02/begin.json", {})
        with pytest.raises(RunHeldError, match="attempt 2 has begun while attempt 1 stood still"):
            first.check_newest()


def test_a_start_that_fails_while_beginning_has_failed(storage: Folder) -> None:
    def accept(run: Folder) -> list[str]:
        raise StorageError("gone")

    with pytest.raises(StorageError, match="gone"):
        begin(storage, accept=accept)
    assert (storage / "tiny").read_json("attempts/01/end.json")["status"] == "failed"


def test_a_live_holder_is_named_and_nothing_is_begun(storage: Folder, holder: "subprocess.Popen[bytes]") -> None:
    said: list[str] = []
    with pytest.raises(RunHeldError, match=f"host {socket.gethostname()}, process {holder.pid}, attempt 01"):
        begin(storage, say=said.append)
    assert len(said) == 1 and "waiting up to" in said[0]
    assert (storage / "tiny" / "attempts").names() == ["01"]


def test_a_killed_holder_is_taken_over_when_its_ranks_are_silent_too(
    storage: Folder, holder: "subprocess.Popen[bytes]"
) -> None:
    """With the real timing: its ranks may write for 2.1 s, and a user waits less than 10."""
    holder.send_signal(signal.SIGKILL)  # Not waited for: a zombie is dead as well.
    begun = time.monotonic()
    with begin(storage, timing=TIMING) as attempt:
        assert attempt.number == 2
    assert 2.1 < time.monotonic() - begun < 10


def test_a_hung_holder_is_stale(storage: Folder, holder: "subprocess.Popen[bytes]") -> None:
    holder.send_signal(signal.SIGSTOP)
    time.sleep(FAST.stale_s)
    with begin(storage) as attempt:
        assert attempt.number == 2


def elsewhere(storage: Folder, clock_ahead_s: float) -> Folder:
    """An attempt of another host, whose clock is wrong, without an end."""
    with begin(storage) as attempt:
        pass
    attempt.folder.delete("end.json")
    record = attempt.folder.read_json("begin.json")
    attempt.folder.write_json("begin.json", record | {"host": "elsewhere"})
    attempt.folder.write_json("heartbeat.json", {"time": time.time() + clock_ahead_s})
    return attempt.folder


@pytest.mark.parametrize("clock_ahead_s", [-3600.0, 0.0, 3600.0])
def test_silence_of_another_host_is_measured_by_the_own_clock(storage: Folder, clock_ahead_s: float) -> None:
    elsewhere(storage, clock_ahead_s)
    begun = time.monotonic()
    with begin(storage) as attempt:
        assert attempt.number == 2
    assert FAST.stale_s <= time.monotonic() - begun < FAST.stale_s + 2


@pytest.mark.parametrize("clock_ahead_s", [-3600.0, 3600.0])
def test_a_beat_of_another_host_is_seen_whatever_its_clock(storage: Folder, clock_ahead_s: float) -> None:
    folder = elsewhere(storage, clock_ahead_s)

    def beat_once(_: str) -> None:
        folder.write_json("heartbeat.json", {"time": time.time() + clock_ahead_s + 1})

    with pytest.raises(RunHeldError, match="host elsewhere"):
        begin(storage, say=beat_once)


@pytest.mark.parametrize(
    ("ours", "taken_over"),
    [("tiny-1a2b-02", True), ("tiny-1a2b-01", False), ("other-1a2b-02", False), ("tiny-1a2b", False), ("", False)],
)
def test_what_ray_has_given_up_is_taken_over_though_it_lives(
    storage: Folder, monkeypatch: pytest.MonkeyPatch, ours: str, taken_over: bool
) -> None:
    """Its driver's node is cut off from Ray, and not from the storage."""
    monkeypatch.setenv("LLMCORE_SUBMISSION", "tiny-1a2b-01")
    folder = elsewhere(storage, 0)
    monkeypatch.setenv("LLMCORE_SUBMISSION", ours)

    def beat_once(_: str) -> None:
        folder.write_json("heartbeat.json", {"time": time.time() + 1})

    if taken_over:
        with begin(storage, say=beat_once) as attempt:
            assert attempt.number == 2
            assert attempt.folder.read_json("begin.json")["submission"] == ours
    else:
        with pytest.raises(RunHeldError, match="host elsewhere"):
            begin(storage, say=beat_once)


def test_a_holder_that_ends_while_it_is_waited_for_is_followed(storage: Folder) -> None:
    folder = elsewhere(storage, 0)
    with begin(storage, say=lambda _: folder.write_json("end.json", {}), timing=Timing(0.05, 60, 60)) as attempt:
        assert attempt.number == 2


def _race(url: str, start: Any, outcomes: Any) -> None:
    start.wait()
    try:
        with begin(Folder(url)) as attempt:
            outcomes.put(attempt.number)
            time.sleep(1.5)
    except RunHeldError:
        outcomes.put("held")


@pytest.mark.parametrize("num_processes", [2, 4])
def test_of_starts_at_once_exactly_one_begins(storage: Folder, num_processes: int) -> None:
    fork = multiprocessing.get_context("fork")
    start, outcomes = fork.Event(), fork.Queue()
    processes = [fork.Process(target=_race, args=(storage.url, start, outcomes)) for _ in range(num_processes)]
    for process in processes:
        process.start()
    start.set()
    found = [outcomes.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(map(str, found)) == ["1", *["held"] * (num_processes - 1)]
    assert (storage / "tiny" / "attempts").names() == ["01"]


def test_a_store_that_lets_another_overwrite_the_beginning_is_noticed(
    storage: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without conditional create both are told that they made it; the one overwritten must not go on."""
    create = Folder.create_bytes
    rival = {"token": "rival", "host": "elsewhere", "pid": 1, "started": time.time(), "flagged": {}}

    def overwritten(self: Folder, name: str, data: bytes) -> bool:
        created = create(self, name, data)
        if name == "begin.json":
            self.write_json("begin.json", rival)
            self.write_json("heartbeat.json", {"time": 1.0})
        return created

    monkeypatch.setattr(Folder, "create_bytes", overwritten)
    beats = iter(range(2, 100))
    rivals = storage / "tiny" / "attempts" / "01"
    with pytest.raises(RunHeldError, match="elsewhere"):
        begin(storage, say=lambda _: rivals.write_json("heartbeat.json", {"time": next(beats)}))


def test_a_storage_that_fails_for_a_while_is_told_once_and_the_heart_beats_on(
    storage: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    write = Folder.write_json
    failing = False

    def flaky(self: Folder, name: str, value: Any) -> None:
        if failing and name == "heartbeat.json":
            raise StorageError("no space left")
        write(self, name, value)

    monkeypatch.setattr(Folder, "write_json", flaky)
    with begin(storage, say=said.append) as attempt:
        failing = True
        time.sleep(FAST.beat_s * 5)
        before = attempt.folder.read_bytes("heartbeat.json")
        failing = False
        time.sleep(FAST.beat_s * 5)
        assert attempt.folder.read_bytes("heartbeat.json") != before
    assert said == ["heartbeat: no space left"]
