"""`make proof TOPIC=pipeline`: one BERT of books, two searches from it at once, one evaluation of both; killed once."""

import json
from pathlib import Path
from typing import Any

import pytest

from llmcore.records import list_runs, newest_result
from llmcore.storage import Folder
from tests.drivers import ROOT, ray_folder, run_jobs, start_jobs, wait_for
from tests.shared_data import DATA, needs_data

pytestmark = [pytest.mark.proof, pytest.mark.proof_pipeline, pytest.mark.timeout(3600), needs_data]

CONFIG = ROOT / "configs/pipeline/bert.yaml"
SEARCHES = ("sst2", "ag_news")
JUDGED_WITHIN_S = 60.0
AGAIN_WITHIN_S = 25.0


def _finished(storage: Path) -> dict[str, float]:
    """What no later start may write anew: ended trials, and judgements, with the time of their writing."""
    files = [*storage.glob("bert.*/trials/*/trial.json"), *storage.glob("artifacts/evaluations/*/manifest.json")]
    return {str(path.relative_to(storage)): path.stat().st_mtime for path in files}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Killed when a trial of each search has ended, started again, and once more when all is done."""
    folder = tmp_path_factory.mktemp("bert")
    (folder / "data").symlink_to(DATA)
    storage, log = folder / "runs", folder / "log.txt"

    def ended() -> bool:
        return all(any(storage.glob(f"bert.{search}/trials/*/trial.json")) for search in SEARCHES)

    with ray_folder() as ray:
        driver = start_jobs("pipeline", str(CONFIG), cwd=folder, output=log, RAY_TMPDIR=ray)
        assert wait_for(ended, driver, timeout_s=3000), log.read_text()
        kept = _finished(storage)
        driver.kill()
        driver.wait()
    print(log.read_text())
    with ray_folder() as ray:
        second = run_jobs("pipeline", str(CONFIG), cwd=folder, RAY_TMPDIR=ray, timeout_s=3000)
    print(second.out)
    assert second.code == 0, second.out + second.err
    again = run_jobs("pipeline", str(CONFIG), cwd=folder)
    assert again.code == 0, again.out + again.err
    return {"storage": storage, "kept": kept, "again_s": again.seconds}


def _span(storage: Path, run: str) -> tuple[float, float]:
    """Of the first attempt: when it began, and its last sign of life."""
    attempt = storage / run / "attempts/01"
    return json.loads((attempt / "begin.json").read_text())["started"], (attempt / "heartbeat.json").stat().st_mtime


def test_both_searches_ran_side_by_side_from_one_model(done: dict[str, Any]) -> None:
    storage = done["storage"]
    spans = [_span(storage, f"bert.{search}") for search in SEARCHES]
    assert max(began for began, _ in spans) < min(last for _, last in spans), spans
    for search in SEARCHES:
        record = json.loads((storage / f"bert.{search}/run.json").read_text())
        assert record["parents"] == ["bert.bert"]
    runs = {run.name: run for run in list_runs(Folder(str(storage)))}
    assert runs["bert.bert"].attempts == runs["bert.books"].attempts == 1
    assert {runs[f"bert.{search}"].status for search in SEARCHES} == {"succeeded"}


def test_a_kill_repeats_no_trial_and_no_judgement(done: dict[str, Any]) -> None:
    now = _finished(done["storage"])
    assert {name: now[name] for name in done["kept"]} == done["kept"]
    assert done["again_s"] < AGAIN_WITHIN_S


def test_one_evaluation_judges_both_as_their_trials_land(done: dict[str, Any]) -> None:
    storage = done["storage"]
    result = newest_result(Folder(str(storage)) / "bert.judged")
    assert result is not None and set(result["sets"]) == set(SEARCHES)
    board = (storage / "bert.judged/evaluation/leaderboard.md").read_text()
    page = (storage / "bert.report/report.html").read_text()
    print(board)
    judged = {}
    for path in storage.glob("artifacts/evaluations/*/manifest.json"):
        about = json.loads(path.read_text())["about"]
        if about["split"] == "validation":
            judged[about["model_sha256"]] = path.stat().st_mtime
    for search in SEARCHES:
        content = json.loads((storage / f"bert.judged.{search}/evaluation/metrics.json").read_text())
        assert f"Leaderboard: judged.{search}" in page and f"Fine-tuning trials: {search}" in page
        assert content["differences"]["chosen - majority"]["accuracy"]["low"] > 0
        print(search, content["leaders"], content["differences"]["chosen - random_weights"]["accuracy"])
        for path in storage.glob(f"bert.{search}/trials/*/trial.json"):
            record = json.loads(path.read_text())
            if (
                str(path.relative_to(storage)) not in done["kept"]
            ):  # those wait for the second start, if it was too fast
                assert judged[record["model_sha256"]] - path.stat().st_mtime <= JUDGED_WITHIN_S, record["id"]
