"""Why a run failed: read from the folders that runs leave, the first cause and not what followed from it."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from llmcore.config.common import JobSettings
from llmcore.errors import ConfigError, InterruptedRunError, RunError, SupersededError, TrialError
from llmcore.records import (
    FAILURE,
    Attempt,
    FailureWriter,
    Timing,
    Why,
    attempt_folder,
    begin_attempt,
    rank_errors_of,
    record_rank_error,
    why_failed,
)
from llmcore.records.signs import follows_from_another, what_to_do
from llmcore.storage import Folder

FAST = Timing(beat_s=0.05, stale_s=0.3, drained_s=0.1)
CUT_OFF = "RuntimeError: [../gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.77.0.12]:4711"
LOST = "The actor died unexpectedly.\n\tclass_name: RayTrainWorker\n\tpid: 4711\n\tip: 10.77.0.12\nWorker exit type: X"


@pytest.fixture
def storage(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "runs"))


def begin(storage: Folder, name: str, kind: str = "pretrain") -> Attempt:
    return begin_attempt(
        storage, JobSettings(name=name), kind=kind, step_version=1, inputs={}, timing=FAST, say=lambda _: None
    )


def failed(storage: Folder, name: str, error: BaseException, kind: str = "pretrain") -> Folder:
    with pytest.raises(type(error)), begin(storage, name, kind) as attempt:
        raise error
    return attempt.run


def killed(attempt: Attempt, beat: float = 5000.0, **begun: Any) -> None:
    """Its heart stops without an end; `begun` stands in `begin.json`."""
    attempt._heartbeat.stop()
    attempt.folder.write_json("heartbeat.json", {"time": beat})
    attempt.folder.write_json("begin.json", attempt.folder.read_json("begin.json") | begun)


def raised(attempt: Folder, rank: int, error: Exception, *, at: float) -> None:
    """A rank tells of its error, at a time."""
    known = set((attempt / "errors").names())
    record_rank_error(attempt, rank, error)
    (name,) = set((attempt / "errors").names()) - known
    (attempt / "errors").write_json(name, (attempt / "errors").read_json(name) | {"time": at, "host": f"node-{rank}"})


def why(run: Folder, attempt: int | None = None) -> Why:
    found = why_failed(run, attempt, timing=FAST)
    assert found is not None
    return found


def test_what_went_well_or_has_not_begun_has_no_why(storage: Folder) -> None:
    with begin(storage, "a") as attempt:
        assert why_failed(attempt.run, timing=FAST) is None  # it runs
    assert why_failed(attempt.run, timing=FAST) is None
    assert why_failed(storage / "none", timing=FAST) is None
    assert why_failed(attempt.run, 7, timing=FAST) is None


def test_a_driver_that_failed_tells_its_error_and_where(storage: Folder) -> None:
    run = failed(storage, "a", RunError("shard 3 cannot be parsed"))
    found = why(run)
    assert (found.run, found.attempt, found.status) == ("a", 1, "failed")
    assert found.what == "RunError: shard 3 cannot be parsed"
    assert found.host == socket.gethostname() and found.pid == os.getpid() and found.when is not None
    assert found.rank is found.trial is found.stage is found.advice is None
    assert found.told().splitlines()[0] == "a, attempt 1, failed:"


def test_the_first_rank_that_failed_by_itself_counts_and_not_the_31_that_followed(storage: Folder) -> None:
    error = RunError("; ".join(f"rank {rank}: {CUT_OFF}" for rank in range(32)))
    with pytest.raises(RunError), begin(storage, "a") as attempt:
        for rank in range(32):
            if rank != 17:
                raised(attempt.folder, rank, RuntimeError(CUT_OFF), at=1000.0 + 0.001 * rank)  # of a clock that is late
        try:
            json.loads("{")
        except ValueError as own:
            raised(attempt.folder, 17, own, at=1000.5)
        FailureWriter(attempt.folder).write(dict.fromkeys(range(32), CUT_OFF), {})
        raise error
    found = why(attempt.run)
    assert (found.rank, found.host, found.also, found.when) == (17, "node-17", 31, 1000.5)
    assert found.what.startswith("JSONDecodeError: Expecting property name")
    assert found.trace is not None and "json.loads" in found.trace
    text = found.told()
    assert "where  rank 17, host node-17" in text and "31 further ranks failed" in text
    assert "1970-01-01 00:16:40 UTC" in text and "closed by peer" not in text


def test_a_process_that_was_killed_is_the_cause_though_it_could_tell_nothing(storage: Folder) -> None:
    with pytest.raises(RunError), begin(storage, "a") as attempt:
        raised(attempt.folder, 0, RuntimeError(CUT_OFF), at=1000.0)
        reasons = {0: CUT_OFF, 1: "ActorDiedError: The actor died unexpectedly."}
        FailureWriter(attempt.folder).write(reasons, {0: CUT_OFF, 1: LOST})
        raise RunError("rank 1: ActorDiedError: The actor died unexpectedly.")
    found = why(attempt.run)
    assert (found.rank, found.host, found.pid, found.also) == (1, "10.77.0.12", 4711, 1)
    assert found.advice is not None and "killed from outside" in found.advice


def test_of_several_failures_of_the_group_the_one_that_ended_it_counts(storage: Folder) -> None:
    with pytest.raises(RunError), begin(storage, "a") as attempt:
        failures = FailureWriter(attempt.folder)
        raised(attempt.folder, 0, MemoryError("first"), at=1000.0)
        failures.write({0: "MemoryError: first"}, {})
        row = attempt.folder / "failures"
        lines = row.read_text("part-00000.jsonl")
        row.write_text("part-00000.jsonl", json.dumps(json.loads(lines) | {"time": 1001.0}) + "\n")
        raised(attempt.folder, 1, OSError("No space left on device"), at=2000.0)
        FailureWriter(attempt.folder).write({1: "OSError: No space left on device"}, {})
        raise RunError("rank 1: OSError: No space left on device")
    found = why(attempt.run)
    assert (found.rank, found.what, found.restarts) == (1, "OSError: No space left on device", 1)
    assert found.advice is not None and found.advice.startswith("make room")
    assert "had started anew once" in found.told()


def test_a_failure_that_was_made_good_is_not_why_it_failed_later(storage: Folder) -> None:
    with pytest.raises(RunError), begin(storage, "a") as attempt:
        FailureWriter(attempt.folder).write({1: "ActorDiedError: gone"}, {})
        assert why(attempt.run).status == "running" and why(attempt.run).rank == 1
        raise RunError("the best export cannot be published")
    assert why(attempt.run).what == "RunError: the best export cannot be published"
    with begin(storage, "b") as attempt:
        FailureWriter(attempt.folder).write({1: "ActorDiedError: gone"}, {})
    assert why(attempt.run).told().startswith("b, attempt 1, succeeded, though this failed:")


def test_whoever_was_replaced_and_says_so_too_late_is_not_why(storage: Folder) -> None:
    with pytest.raises(RunError), begin(storage, "a") as attempt:
        raised(attempt.folder, 0, SupersededError("others have taken its place"), at=1000.0)
        raised(attempt.folder, 0, ValueError("the true one"), at=2000.0)
        FailureWriter(attempt.folder).write({0: "ValueError: the true one"}, {})
        raise RunError("rank 0: ValueError: the true one")
    assert why(attempt.run).what == "ValueError: the true one"


def test_a_run_without_an_end_tells_of_its_last_sign_of_life(storage: Folder) -> None:
    attempt = begin(storage, "a")
    killed(attempt, host="node-9")
    found = why(attempt.run)
    assert (found.status, found.when, found.host) == ("dead", 5000.0, "node-9")
    assert "killed" in found.what and found.advice is not None


def test_an_older_attempt_can_be_asked_about(storage: Folder) -> None:
    failed(storage, "a", RunError("first"))
    run = failed(storage, "a", InterruptedRunError("SIGTERM"))
    assert (why(run, 1).what, why(run).status) == ("RunError: first", "interrupted")


def test_of_a_pipeline_the_stage_that_failed_first_counts(storage: Folder) -> None:
    failed(storage, "p.prepare", RunError("of an earlier start"))
    with pytest.raises(RunError), begin(storage, "p", "pipeline") as pipeline:
        with pytest.raises(RunError), begin(storage, "p.pretrain") as stage:
            raised(stage.folder, 1, ValueError("bad row"), at=1000.0)
            raise RunError("rank 1: ValueError: bad row")
        failed(storage, "p.evaluate", RunError("the searches have no ended trial"))
        raise RunError("rank 1: ValueError: bad row")
    found = why(pipeline.run)
    assert (found.stage, found.run, found.rank, found.what) == ("pretrain", "p.pretrain", 1, "ValueError: bad row")
    assert "where  stage pretrain, rank 1" in found.told()


def test_a_stage_whose_process_was_killed_is_told_by_who_waited_for_it(storage: Folder) -> None:
    ended = RunError("the process of stage pretrain was ended by SIGKILL: the same command goes on")
    with pytest.raises(RunError), begin(storage, "p", "pipeline") as pipeline:
        killed(begin(storage, "p.pretrain"), host="node-9")
        raise ended
    found = why(pipeline.run)
    assert (found.stage, found.what) == ("pretrain", f"RunError: {ended}")


def test_a_pipeline_that_was_killed_names_the_stage_at_work(storage: Folder) -> None:
    pipeline = begin(storage, "p", "pipeline")
    with begin(storage, "p.prepare"):
        pass
    killed(begin(storage, "p.pretrain"), host="node-9")
    killed(pipeline, host="node-9")
    assert (why(pipeline.run).stage, why(pipeline.run).status) == ("pretrain", "dead")


def trial(search: Attempt, name: str, *, at: float, error: str | None) -> Folder:
    folder = search.run / "trials" / name
    status = "finished" if error is None else "failed"
    cause = None if error is None else "error"
    folder.write_json(
        "trial.json", {"id": name, "status": status, "cause": cause, "error": error, "attempt": search.number}
    )
    records = attempt_folder(folder, search.number)
    if error is not None:
        records.write_json(FAILURE, {"cause": cause, "error": error, "time": at})
    return records


def test_of_a_search_the_trial_that_failed_first_counts(storage: Folder) -> None:
    with pytest.raises(TrialError), begin(storage, "s", "tune") as search:
        trial(search, "trial-000", at=3000.0, error="rank 0: ValueError: later")
        records = trial(search, "trial-001", at=2000.0, error="rank 1: ValueError: earlier")
        raised(records, 1, ValueError("earlier"), at=1999.0)
        raise TrialError("none of 2 trials left a model")
    found = why(search.run)
    assert (found.trial, found.rank, found.what, found.also) == ("trial-001", 1, "ValueError: earlier", 1)
    with begin(storage, "t", "tune") as search:
        trial(search, "trial-000", at=1000.0, error=None)
        trial(search, "trial-001", at=2000.0, error="it took longer than trial_hours=1")
    found = why(search.run)
    assert (found.trial, found.status) == ("trial-001", "succeeded")
    assert found.what == "it took longer than trial_hours=1"


def test_a_search_that_failed_for_another_reason_does_not_blame_a_trial(storage: Folder) -> None:
    with pytest.raises(ConfigError), begin(storage, "s", "tune") as search:
        trial(search, "trial-000", at=1000.0, error="rank 0: ValueError: x")
        raise ConfigError("space.lr is no key of `finetune`: name one that is there")
    found = why(search.run)
    assert found.trial is None and found.advice is None  # the message has the fix


def test_a_rank_keeps_its_own_error_when_the_storage_fails(tmp_path: Path) -> None:
    (tmp_path / "errors").write_text("no folder can be here")
    record_rank_error(Folder(str(tmp_path)), 0, ValueError("x"))
    assert rank_errors_of(Folder(str(tmp_path))) == []


@pytest.mark.parametrize(
    ("told", "advice"),
    [
        ("OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "train.micro_batch_size"),
        ("OutOfMemoryError: Task was killed due to the node running low on memory", "node's memory"),
        ("RunError: rank 0: /x cannot be written: No space left on device", "make room"),
        ("NonFiniteError: the loss is not finite at step 48", "learning_rate"),
        ("HungRankError: no step has ended for 600 s; it stands in", "workers.hang_s"),
        ("StorageError: s3://b/x cannot be read: Access Denied", "credentials"),
        ("ModuleNotFoundError: No module named 'deepspeed'", "constraints.txt"),
        (CUT_OFF, "network"),
    ],
)
def test_known_failures_have_advice(told: str, advice: str) -> None:
    found = what_to_do(told)
    assert found is not None and advice in found


def test_what_follows_from_another_rank_is_told_from_what_does_not() -> None:
    assert follows_from_another(CUT_OFF) and follows_from_another("DistNetworkError: x")
    assert follows_from_another("CheckpointError: checkpoint x is not written: another rank is gone (x)")
    assert not follows_from_another("ActorDiedError: The actor died") and not follows_from_another("ValueError: x")
    assert what_to_do("ValueError: x") is None
