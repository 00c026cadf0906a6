"""The list of runs: how each stands is told from attempts and heartbeats alone."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from jobs.runs import run_listing
from llmcore.config.common import JobSettings
from llmcore.errors import InterruptedRunError, StorageError
from llmcore.records import Attempt, RunStatus, Timing, begin_attempt, list_runs
from llmcore.storage import Folder

FAST = Timing(beat_s=0.05, stale_s=0.3, drained_s=0.1)


@pytest.fixture
def storage(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "runs"))


def begin(storage: Folder, name: str) -> Attempt:
    return begin_attempt(
        storage, JobSettings(name=name), kind="prepare", step_version=1, inputs={}, timing=FAST, say=lambda _: None
    )


def one(storage: Folder) -> RunStatus:
    (run,) = list_runs(storage, timing=FAST)
    return run


def change(attempt: Attempt, name: str, **fields: Any) -> None:
    attempt.folder.write_json(name, (attempt.folder.find_json(name) or {}) | fields)


def test_runs_are_told_by_how_they_ended(storage: Folder) -> None:
    storage.write_bytes("artifacts/tokens/ab/manifest.json", b"{}")
    storage.write_bytes("register/ab/1.json", b"{}")
    storage.write_bytes("notes.txt", b"no run")
    with begin(storage, "b"):
        pass
    with pytest.raises(ZeroDivisionError), begin(storage, "a"):
        _ = 1 // 0
    with pytest.raises(InterruptedRunError), begin(storage, "c"):
        raise InterruptedRunError("stop")
    running = begin(storage, "d")
    found = [(run.name, run.status) for run in list_runs(storage, timing=FAST)]
    running.__exit__(None, None, None)
    assert found == [("a", "failed"), ("b", "succeeded"), ("c", "interrupted"), ("d", "running")]


def test_attempts_add_up(storage: Folder) -> None:
    for price in (None, 3600.0):
        with begin(storage, "a") as attempt:
            attempt.ledger.price_per_device_hour = price
            attempt.ledger.add("compute", 2.0)
    change(attempt, "end.json", seconds=5.0)
    run = one(storage)
    assert (run.kind, run.attempts, run.status) == ("prepare", 2, "succeeded")
    assert run.seconds == pytest.approx(5.0, abs=0.5) and run.money == pytest.approx(2.0)
    assert run.started == (storage / "a").read_json("attempts/01/begin.json")["started"]


def test_the_newest_attempt_tells(storage: Folder) -> None:
    with begin(storage, "a"):
        pass
    with pytest.raises(ZeroDivisionError), begin(storage, "a"):
        _ = 1 // 0
    assert one(storage).status == "failed"


@pytest.mark.parametrize(
    ("begin_fields", "beat_age_s", "status"),
    [
        ({}, 0.0, "running"),
        ({}, 1.0, "dead"),  # this host's clock is the reader's
        ({"pid": 2**22 + 1}, 0.0, "dead"),  # no such process
        ({"started": 1.0}, 0.0, "dead"),  # its number is another process's by now
        ({"host": "elsewhere"}, 0.0, "running"),
        ({"host": "elsewhere"}, 30.0, "dead"),  # watched, and silent
        ({"host": "elsewhere"}, 1e6, "dead"),
    ],
)
def test_without_an_end_the_heartbeat_tells(
    storage: Folder, begin_fields: dict[str, Any], beat_age_s: float, status: str
) -> None:
    with begin(storage, "a") as attempt:
        pass
    attempt.folder.delete("end.json")
    change(attempt, "begin.json", **begin_fields)
    change(attempt, "heartbeat.json", time=time.time() - beat_age_s)
    assert one(storage).status == status


def test_a_word_in_a_file_tells_nothing(storage: Folder) -> None:
    with begin(storage, "a") as attempt:
        pass
    attempt.folder.write_bytes("end.json", b'{"status": "succeeded"')  # torn
    change(attempt, "heartbeat.json", time=time.time() - 100, status="running")
    change(attempt, "begin.json", started=time.time() - 107)
    assert one(storage).status == "dead"
    assert one(storage).seconds == pytest.approx(7.0, abs=0.5)


def test_a_run_that_never_began_an_attempt_is_dead(storage: Folder) -> None:
    (storage / "a").write_json("run.json", {"kind": "tune", "name": "a"})
    assert one(storage) == RunStatus("tune", "a", "dead", None, 0, 0.0, None)


def test_the_table_and_the_json_say_the_same(storage: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    with begin(storage, "tiny.prepare") as attempt:
        attempt.ledger.price_per_device_hour = 3600.0
        attempt.ledger.add("compute", 2.0)
    change(attempt, "end.json", seconds=3725.0)
    run_listing(storage.url, as_json=False)
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split() == ["kind", "name", "status", "started", "attempts", "time", "cost"]
    assert row.split()[:3] == ["prepare", "tiny.prepare", "succeeded"] and row.split()[-3:] == ["1", "1:02:05", "2.00"]
    run_listing(storage.url, as_json=True)
    (run,) = json.loads(capsys.readouterr().out)
    assert (run["name"], run["status"], run["seconds"], run["money"]) == ("tiny.prepare", "succeeded", 3725.0, 2.0)
    assert run["started"].endswith("+00:00")


def test_no_runs_are_said_to_be_none(storage: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    run_listing(storage.url, as_json=False)
    run_listing(storage.url, as_json=True)
    assert capsys.readouterr().out == f"no runs at {storage.url}\n[]\n"
    with pytest.raises(StorageError):
        run_listing("nosuch://x/y", as_json=False)


def test_listing_runs_imports_nothing_heavy() -> None:
    code = (
        "import sys, jobs.runs, llmcore.storage, llmcore.records, llmcore.cost\n"
        "print(*{'ray', 'torch', 'transformers', 'pyarrow', 'scipy', 'sklearn'} & set(sys.modules))"
    )
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=paths)
    assert done.stdout.strip() == ""
