"""SIGKILL of the driver in each of the five stages, each time the same command again, against an undisturbed run."""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from llmcore.records import list_runs
from llmcore.storage import Folder, read_manifest
from tests.drivers import processes_of, ray_folder, run_jobs, start_jobs, wait_for
from tests.tiny import NUM_STEPS, told_losses, write_config

pytestmark = pytest.mark.timeout(3600)  # as long as other work on the machine makes it last
GONE_WITHIN_S = 10.0


def _any(storage: Path, pattern: str) -> bool:
    return next(storage.glob(pattern), None) is not None


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "prepare": lambda storage: (storage / "tiny.prepare/attempts/01/begin.json").exists(),
    "pretrain": lambda storage: _any(storage, "tiny.pretrain/checkpoints/*/manifest.json"),
    # One trial has ended, the other is on its way: the first may not be repeated, the second goes on.
    "tune": lambda storage: _any(storage, "tiny.tune/trials/trial-001/checkpoints/*/manifest.json"),
    # The chosen model has been judged on the test split, and its twin from random weights is being trained.
    "evaluate": lambda storage: _any(storage, "tiny.evaluate.random-weights/checkpoints/*/manifest.json"),
    "report": lambda storage: (storage / "tiny.report/attempts/01/begin.json").exists(),
}
"""When the driver is killed: what stands on the storage by then."""


@dataclass(frozen=True)
class Kill:
    """A start of the pipeline that was killed."""

    stage: str
    gone_after_s: float
    finished: dict[str, float]
    """Files of stages, trials and evaluations that were finished by then, and when they were written."""


@dataclass(frozen=True)
class Killed:
    """A pipeline that was killed five times, and then went to its end."""

    storage: Path
    kills: list[Kill]
    again_s: float
    """Seconds of the same command once all is done."""


def _finished_files(storage: Path) -> dict[str, float]:
    """Every file of what is complete: published folders, ended stages and trials."""
    manifests = [
        path.parent for path in storage.rglob("manifest.json") if not re.search("checkpoints|exports", str(path))
    ]
    trials = [path.parent for path in storage.glob("*/trials/*/trial.json")]
    ended = [path.parent for path in storage.glob("*/attempts/*/end.json")]
    files = [path for folder in [*manifests, *trials, *ended] for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(storage)): path.stat().st_mtime for path in files}


def _kill(stage: str, config: Path, storage: Path, log: Path) -> Kill:
    """Starts the pipeline, kills its driver in the stage, and waits until none of its processes is left."""
    with ray_folder() as ray:
        driver = start_jobs("pipeline", str(config), cwd=config.parent, output=log, RAY_TMPDIR=ray)
        assert wait_for(lambda: MOMENTS[stage](storage), driver), f"ended before {stage}: {log.read_text()}"
        started = psutil.Process(driver.pid).children(recursive=True)
        driver.kill()
        killed = time.monotonic()
        driver.wait()
        assert (len(started) > 10) or stage == "report"
        psutil.wait_procs(started, timeout=GONE_WITHIN_S)
        while (alive := processes_of(ray)) and time.monotonic() - killed < GONE_WITHIN_S:
            time.sleep(0.1)
        assert not alive, f"killed in {stage}, alive after {GONE_WITHIN_S} s: {[p.cmdline() for p in alive]}"
        alive = [process for process in started if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
        assert not alive, f"killed in {stage}, alive after {GONE_WITHIN_S} s: {[p.name() for p in alive]}"
        return Kill(stage, time.monotonic() - killed, _finished_files(storage))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, tiny: dict[str, Any]) -> Killed:
    """The pipeline, killed in each stage in turn, then left alone."""
    folder = tmp_path_factory.mktemp("killed")
    storage, log = folder / "runs", folder / "log.txt"
    config = write_config(folder / "tiny.yaml", tiny | {"storage": str(storage)})
    started = time.monotonic()
    kills = [_kill(stage, config, storage, log) for stage in MOMENTS]
    with ray_folder() as ray:
        ended = run_jobs("pipeline", str(config), cwd=folder, RAY_TMPDIR=ray)
        assert ended.code == 0, ended.out + ended.err
        print(f"\nkilled five times: {time.monotonic() - started:.0f} s\n{log.read_text()}{ended.out}")
        again = run_jobs("pipeline", str(config), cwd=folder, RAY_TMPDIR=ray)
        assert again.code == 0, again.out + again.err
    return Killed(storage, kills, again.seconds)


def test_no_process_of_a_killed_run_lives_on(killed: Killed) -> None:
    print({kill.stage: f"{kill.gone_after_s:.1f} s" for kill in killed.kills})
    assert all(kill.gone_after_s <= GONE_WITHIN_S for kill in killed.kills)


def test_finished_work_is_not_repeated(killed: Killed) -> None:
    attempts = {run.name: run.attempts for run in list_runs(Folder(str(killed.storage)))}
    assert attempts == {
        "tiny": 6,
        "tiny.prepare": 2,
        "tiny.pretrain": 2,
        "tiny.tune": 2,
        "tiny.evaluate": 3,  # it runs beside the search, so the search's kill is its own
        "tiny.evaluate.random-weights": 2,
        "tiny.report": 2,
    }
    for kill in killed.kills:
        for name, written in kill.finished.items():
            assert (killed.storage / name).stat().st_mtime == written, f"{name} was made before {kill.stage}, and again"


def test_of_the_search_only_the_open_trial_goes_on(killed: Killed) -> None:
    trials = killed.storage / "tiny.tune/trials"
    attempts = {path.name: sorted(one.name for one in (path / "attempts").iterdir()) for path in trials.iterdir()}
    assert attempts == {"trial-000": ["01"], "trial-001": ["01", "02"]}


def test_the_same_rows_give_the_same_losses_bit_for_bit(killed: Killed, reference: Path) -> None:
    rows, undisturbed = told_losses(killed.storage), told_losses(reference)
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, NUM_STEPS + 1))
    assert [row["rows_consumed"] for row in rows if "loss" in row] == list(range(4, 4 * NUM_STEPS + 1, 4))
    assert rows == undisturbed


def test_the_killed_run_went_on_from_a_checkpoint(killed: Killed) -> None:
    second = killed.storage / "tiny.pretrain/attempts/02"
    accepted = json.loads((second / "begin.json").read_text())["accepted"]
    assert accepted
    session, first, *_ = [json.loads(line) for line in (second / "metrics/part-00000.jsonl").read_text().splitlines()]
    assert session["session"]["resumed_at"] == first["step"] - 1
    assert 0 < first["step"] - 1 < NUM_STEPS


def _sha256s(folder: Folder) -> dict[str, str]:
    manifest = read_manifest(folder)
    assert manifest is not None
    return {name: entry.sha256 for name, entry in manifest.files.items()}


def test_the_model_is_the_same(killed: Killed, reference: Path) -> None:
    one, other = (Folder(str(storage)) / "tiny.pretrain" / "model" for storage in (killed.storage, reference))
    assert _sha256s(one) == _sha256s(other)


def _trials(storage: Path) -> dict[str, Any]:
    aside = {"model", "seconds", "device_seconds", "attempt"}
    records = (json.loads(path.read_text()) for path in sorted(storage.glob("tiny.tune/trials/*/trial.json")))
    return {record["id"]: {key: record[key] for key in record.keys() - aside} for record in records}


def test_the_trials_are_the_same(killed: Killed, reference: Path) -> None:
    assert _trials(killed.storage) == _trials(reference)


def _verdict(storage: Path) -> dict[str, Any]:
    verdict: dict[str, Any] = json.loads((storage / "tiny.evaluate/evaluation/metrics.json").read_text())
    return verdict


def test_the_verdict_is_the_same_at_as_many_looks(killed: Killed, reference: Path) -> None:
    verdict = _verdict(killed.storage)
    assert verdict == _verdict(reference)
    assert verdict["set"]["checked"] is True and "was checked for" in verdict["note"]
    assert verdict["register_looks"] == 4  # the chosen trial, the next one, the majority class, the random-weights twin
    assert len(list(killed.storage.glob("register/*/*"))) == 4
    evaluations = killed.storage / "artifacts/evaluations"
    assert len(list(evaluations.glob("*/manifest.json"))) == len(_trials(killed.storage)) + 4


def test_once_done_the_same_command_finds_it_done(killed: Killed) -> None:
    assert killed.again_s < 25
    attempts = {run.name: run.status for run in list_runs(Folder(str(killed.storage)))}
    assert set(attempts.values()) == {"succeeded"}
