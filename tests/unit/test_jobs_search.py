"""What a search is made of, without Ray: causes of failures, lives of a population, and what trials have held."""

import time
from pathlib import Path
from typing import Any

import pytest

from jobs.runtime.budget import clock_of, run_s
from jobs.runtime.search.causes import cause_of, may_pass
from jobs.runtime.search.held import begin_holding, end_holding, held_device_s
from jobs.runtime.search.lives import begin_life, lives_of, newest_life
from llmcore.errors import CheckpointError, DivergedError, HungRankError, RunError
from llmcore.records import checkpoint_name
from llmcore.storage import Folder, write_file, write_manifest


class ActorDiedError(Exception):
    """As Ray's is called."""


class WorkerGroupError(Exception):
    """As Ray Train's is called."""

    def __init__(self, failures: dict[int, BaseException]) -> None:
        super().__init__("a group")
        self.worker_failures = failures


def _told(*failures: BaseException) -> BaseException:
    """In our words, as `run_workers` raises it."""
    error = RunError("; ".join(map(str, failures)))
    error.__cause__ = WorkerGroupError(dict(enumerate(failures)))
    return error


@pytest.mark.parametrize(
    ("error", "cause", "passes"),
    [
        (DivergedError("loss is not finite"), "non_finite", False),
        (_told(MemoryError(), ActorDiedError("gone")), "out_of_memory", False),
        (_told(RuntimeError("CUDA out of memory. Tried to allocate")), "out_of_memory", False),
        (_told(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")), "out_of_memory", False),
        (_told(HungRankError("no step has ended"), ActorDiedError("gone")), "hang", True),
        (_told(ActorDiedError("SIGKILL"), ActorDiedError("SIGKILL")), "crash", True),
        (_told(RuntimeError("[gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer")), "crash", True),
        (_told(ValueError("cursed"), RuntimeError("gloo: Connection closed by peer")), "error", False),
        (_told(ValueError("cursed"), ActorDiedError("gone with it")), "error", False),
        (RunError("whatever"), "error", False),
    ],
)
def test_of_several_reasons_that_counts_which_explains_the_others(
    error: BaseException, cause: Any, passes: bool
) -> None:
    assert cause_of(error) == cause
    assert may_pass(cause) == passes


def _checkpoint(folder: Folder, step: int, text: bytes) -> str:
    name = checkpoint_name(step, 1)
    checkpoint = folder / "checkpoints" / name
    write_manifest(checkpoint, "checkpoint", [write_file(checkpoint, "rank-0000.safetensors", text)], {"step": step})
    return name


def test_a_life_begins_with_the_donors_checkpoint_of_the_step(tmp_path: Path) -> None:
    trial, donor = Folder(str(tmp_path / "t1")), Folder(str(tmp_path / "t0"))
    assert newest_life(trial).folder == trial
    _checkpoint(donor, 10, b"ten")
    name = _checkpoint(donor, 20, b"twenty")
    _checkpoint(donor, 30, b"thirty")
    life = begin_life(trial, {"rate": 0.5}, {"life": donor.url, "step": 20})
    told = {"life": donor.url, "step": 20}
    assert life.record == {"values": {"rate": 0.5}, "donor": donor.url, "step": 20, "told": told}
    assert life.is_of(told) and life.is_of({"life": life.folder.url, "step": 40})
    assert not life.is_of({"life": donor.url, "step": 30})
    assert (life.folder / "checkpoints").names() == [name]
    assert (life.folder / "checkpoints" / name).read_bytes("rank-0000.safetensors") == b"twenty"
    assert [one.folder.url for one in lives_of(trial)] == [trial.url, f"{trial.url}/lives/02"]

    later = begin_life(trial, {"rate": 0.6}, {"life": donor.url, "step": 25})
    assert (later.folder.url, later.record and later.record["step"]) == (f"{trial.url}/lives/03", 30)
    assert newest_life(trial) == later


def test_a_life_without_a_donor_does_not_begin(tmp_path: Path) -> None:
    trial, donor = Folder(str(tmp_path / "t1")), Folder(str(tmp_path / "t0"))
    torn = _checkpoint(donor, 10, b"ten")
    (donor / "checkpoints" / torn).delete("manifest.json")
    with pytest.raises(CheckpointError, match="no complete checkpoint any more"):
        begin_life(trial, {}, {"life": donor.url, "step": 10})
    assert newest_life(trial).folder == trial


def test_what_trials_have_held_is_counted_over_all_starts(tmp_path: Path) -> None:
    """Of a start that was killed, until its search's last heartbeat; of the one that is alive, until now."""
    search, now = Folder(str(tmp_path / "s")), time.time()
    for number, began, beat in ((1, now - 1000, now - 900), (2, now - 50, now - 1)):
        search.write_json(f"attempts/{number:02d}/begin.json", {"started": began})
        search.write_json(f"attempts/{number:02d}/heartbeat.json", {"time": beat})
    first, second = (search / "trials" / name for name in ("trial-000", "trial-001"))
    begin_holding(first, 1, 2, now - 990)
    end_holding(first, 1, now - 970)
    begin_holding(second, 1, 2, now - 960)
    begin_holding(second, 2, 2, now - 40)
    begin_holding(second, 2, 2, now - 10)
    assert held_device_s(search, ["trial-000"], alive=2) == pytest.approx(40)
    assert held_device_s(search, ["trial-001"], alive=2) == pytest.approx(2 * (60 + 40), abs=2)
    assert clock_of(search, 2)() == pytest.approx(100 + 50, abs=2)
    assert (run_s(search, before=2), run_s(search)) == (pytest.approx(100), pytest.approx(100 + 49))
