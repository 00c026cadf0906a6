"""A start that stands still (SIGSTOP, a suspended laptop) until another has taken its run over, and then wakes up."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from llmcore.records import Writer, list_runs, newest_result, read_metrics
from llmcore.storage import Folder, read_manifest, verify_files
from llmcore.train.kept import complete_names, newest_checkpoint
from tests.drivers import environment, wait_for
from tests.faults import timeless_rows
from tests.tiny_run import FAST, write_tokenizer

NUM_STEPS = 12


def _start(storage: Path, tokenizer: Path, step_s: float, *again: str) -> "subprocess.Popen[str]":
    given = (str(storage), str(tokenizer), str(NUM_STEPS), str(step_s), *again)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.tiny_run", *given],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _woken(paused: "subprocess.Popen[str]") -> str:
    """What one said that was woken up: it took a step or two, and ended at its next export or checkpoint."""
    os.kill(paused.pid, signal.SIGCONT)
    _, err = paused.communicate(timeout=300)
    assert paused.returncode == 1
    return err


def _seen(storage: Folder, attempt: int) -> dict[str, Any]:
    """What readers see of the run."""
    run = storage / "tiny"
    begun = [run.read_json(f"attempts/{number:02d}/begin.json")["accepted"] for number in range(1, attempt + 1)]
    newest = newest_checkpoint(run / "checkpoints", begun[-1], Writer(attempt))
    assert newest.checkpoint is not None
    model = read_manifest(run / "model")
    assert model is not None
    return {
        "accepted": begun,
        "newest": (newest.checkpoint[0].name, newest.checkpoint[1].sha256),
        "checkpoints": [name for name in complete_names(run / "checkpoints") if name.endswith(f"{attempt:02d}")],
        "model": model.sha256,
        "metrics": timeless_rows(run),
        "result": newest_result(run),
        "status": [(one.status, one.attempts) for one in list_runs(storage, timing=FAST)],
    }


def test_of_two_jobs_on_one_run_exactly_one_trains(tmp_path: Path) -> None:
    storage, tokenizer = tmp_path / "runs", write_tokenizer(tmp_path / "tokenizer")
    both = [_start(storage, tokenizer, step_s=0.5) for _ in range(2)]
    told = [one.communicate(timeout=300) for one in both]
    assert sorted(one.returncode for one in both) == [0, 1]
    refused = next(err for one, (_, err) in zip(both, told, strict=True) if one.returncode)
    assert "RunHeldError" in refused and "is alive" in refused
    assert [row["step"] for row in read_metrics(Folder(str(storage)) / "tiny") if "loss" in row] == list(range(1, 13))
    [status] = list_runs(Folder(str(storage)), timing=FAST)
    assert (status.status, status.attempts) == ("succeeded", 1)


def test_a_paused_attempt_that_wakes_up_changes_nothing_that_readers_see(tmp_path: Path) -> None:
    storage, tokenizer = tmp_path / "runs", write_tokenizer(tmp_path / "tokenizer")
    checkpoints = storage / "tiny/checkpoints"
    paused = _start(storage, tokenizer, step_s=0.4)
    try:
        assert wait_for((checkpoints / "step-00000004-attempt-01/manifest.json").exists, paused)
        os.kill(paused.pid, signal.SIGSTOP)
        second = _start(storage, tokenizer, step_s=0.0)
        _, err = second.communicate(timeout=300)
        assert second.returncode == 0, err
        folder = Folder(str(storage))
        before = _seen(folder, 2)
        assert before["accepted"][1][-1].startswith("step-0000000") and before["newest"][0].endswith("12-attempt-02")
    except BaseException:
        paused.kill()
        raise
    err = _woken(paused)
    assert "RunHeldError" in err and "attempt 2 has begun while attempt 1 stood still" in err
    assert json.loads((storage / "tiny/attempts/01/end.json").read_text())["status"] == "failed"
    assert _seen(folder, 2) == before
    third = _start(storage, tokenizer, step_s=0.0)
    assert third.communicate(timeout=300)[0] and third.returncode == 0
    assert all(name in before["checkpoints"] for name in _seen(folder, 3)["accepted"][2])


def test_workers_that_wake_up_after_others_took_their_place_change_nothing_that_readers_see(tmp_path: Path) -> None:
    """As where Ray counts their node as lost, and starts the attempt's workers on another."""
    storage, tokenizer = tmp_path / "runs", write_tokenizer(tmp_path / "tokenizer")
    run = Folder(str(storage)) / "tiny"
    paused = _start(storage, tokenizer, 0.4)
    try:
        assert wait_for((storage / "tiny/checkpoints/step-00000004-attempt-01/manifest.json").exists, paused)
        os.kill(paused.pid, signal.SIGSTOP)
        others = _start(storage, tokenizer, 0.0, "again")
        _, err = others.communicate(timeout=300)
        assert others.returncode == 0, err
        before = _trained(run)
    except BaseException:
        paused.kill()
        raise
    err = _woken(paused)
    assert (
        "SupersededError" in err
        and "started again, as those of session 2, while these of session 1 counted as lost" in err
    )
    assert _trained(run) == before
    assert before["checkpoints"][-1] == f"step-{NUM_STEPS:08d}-attempt-01-session-002"
    assert [row["step"] for row in before["metrics"] if "loss" in row] == list(range(1, NUM_STEPS + 1))


def _trained(run: Folder) -> dict[str, Any]:
    """What readers see of an attempt that was started again: checkpoints, files and all, exports, rows."""
    names = complete_names(run / "checkpoints")
    manifests = {name: read_manifest(run / "checkpoints" / name) for name in names}
    for name, manifest in manifests.items():
        assert manifest is not None
        verify_files(run / "checkpoints" / name, manifest)
    return {
        "checkpoints": names,
        "hashes": [manifest and manifest.sha256 for manifest in manifests.values()],
        "exports": complete_names(run / "exports"),
        "metrics": timeless_rows(run),
    }
