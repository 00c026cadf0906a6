"""What a model has cost: by the ledgers of its trainings, those of killed starts by their heartbeats."""

from pathlib import Path

import pytest

from llmcore.config.common import JobSettings
from llmcore.records import Timing, begin_attempt, spent_on_training
from llmcore.storage import Folder

FAST = Timing(beat_s=0.05, stale_s=0.3, drained_s=0.1)


@pytest.fixture
def storage(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "runs"))


def _train(storage: Folder, name: str, kind: str, flops: float, parents: tuple[str, ...] = ()) -> None:
    """A start on two devices that took 10 s of steps and 5 s to start up."""
    attempt = begin_attempt(
        storage, JobSettings(name=name), kind=kind, step_version=1, inputs={}, parents=parents, timing=FAST
    )
    with attempt:
        attempt.ledger.hold(2, "cpu")
        attempt.ledger.add("compute", 10.0)
        attempt.ledger.add("start_up", 5.0)
        attempt.ledger.count(flops=flops)


def test_attempts_add_up_whatever_they_were_spent_on(storage: Folder) -> None:
    for _ in range(2):
        _train(storage, "a", "pretrain", 3.0)
    found = spent_on_training(storage, "a")
    assert found is not None and found.runs == ("a",)
    assert found.device_seconds == pytest.approx(2 * 2 * 15.0)
    assert (found.flops, found.devices) == (6.0, ("cpu",))
    assert spent_on_training(storage, (storage / "a").url) == found


def test_what_it_began_with_counts_and_the_corpus_does_not(storage: Folder) -> None:
    _train(storage, "corpus", "prepare", 1.0)
    _train(storage, "a", "pretrain", 3.0, ("corpus",))
    _train(storage, "b", "finetune", 5.0, ("a", "corpus"))
    found = spent_on_training(storage, "b")
    assert found is not None and found.runs == ("b", "a")
    assert found.flops == 8.0
    assert found.device_seconds == pytest.approx(2 * 30.0)


def test_a_killed_start_counts_until_its_last_heartbeat(storage: Folder) -> None:
    _train(storage, "a", "pretrain", 3.0)
    _train(storage, "a", "pretrain", 3.0)
    folder = storage / "a/attempts/01"
    for name in ("cost.json", "end.json"):
        folder.delete(name)
    folder.write_json("heartbeat.json", {"time": folder.read_json("begin.json")["started"] + 7.0})
    found = spent_on_training(storage, "a")
    assert found is not None and found.flops == 3.0
    assert found.device_seconds == pytest.approx(2 * 7.0 + 2 * 15.0)


def test_of_others_nobody_knows(storage: Folder) -> None:
    _train(storage, "search", "tune", 1.0)
    assert spent_on_training(storage, "search") is None
    assert spent_on_training(storage, "/models/of/another/maker") is None
