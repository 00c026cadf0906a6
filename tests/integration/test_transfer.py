"""A transfer by the command line: killed in its midst, gone on with, and held against a plain fine-tuning."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from llmcore.config.transfer import TransferConfig
from llmcore.evaluation.transfer import PREDICTIONS, finished_points, point_folder
from llmcore.records import attempt_numbers, newest_result, read_metrics
from llmcore.storage import Folder, read_manifest
from llmcore.tasks.evaluation_set import find_published
from tests.bases import write_early_or_late
from tests.drivers import Ended, run_jobs, start_jobs, wait_for
from tests.faults import sessions
from tests.tiny import write_config

if TYPE_CHECKING:
    from cluster.connect import Session

OPTIMIZER = {"learning_rate": 5e-3, "head_learning_rate_factor": 2.0}
TASK = {"max_tokens": 16, "validation_metric": "accuracy"}
TRAIN = {
    "global_batch_size": 6,
    "micro_batch_size": 2,
    "zero_stage": 2,
    "precision": "fp32",
    "optimizer": OPTIMIZER,
    "log_every": 1,
}
WORKERS = {"num_workers": 2, "cpus_per_worker": 0.5, "threads_per_worker": 1}


def _config(root: Path) -> dict[str, Any]:
    return {
        "name": "bought",
        "storage": str(root / "runs"),
        "base": str(root / "base"),
        "data": write_early_or_late(root),
        "labels": [6, 18],
        "epochs": [2, 6],
        "random_learning_rate": 1e-2,
        "pretraining": {"device_seconds": 100.0},
        "num_resamples": 200,
        "task": TASK,
        "train": TRAIN,
        "workers": WORKERS,
    }


def _losses(run: Folder, point: str | None = None) -> list[float]:
    """Of each step; of a transfer, those of one point."""
    return [row["loss"] for row in read_metrics(run) if "loss" in row and row.get("point") == point]


def test_it_is_killed_gone_on_with_and_as_a_plain_fine_tuning(ray_session: "Session", tmp_path: Path) -> None:
    given = _config(tmp_path)
    config, file = TransferConfig.model_validate(given), write_config(tmp_path / "transfer.yaml", given)
    storage, points = Folder(str(tmp_path / "runs")), TransferConfig.model_validate(given).points()
    run = storage / "bought"

    def ended(*arguments: str) -> Ended:
        ended = run_jobs(*arguments, cwd=tmp_path, **ray_session.for_stages)
        assert ended.code == 0, ended.out + ended.err
        return ended

    planned = ended("transfer", str(file), "--dry-run")
    assert "8 points, one after the other on 2 workers" in planned.out and "64 steps in all" in planned.out
    assert "That is the largest of 8 points" in planned.out and not run.exists()

    log = tmp_path / "killed.log"
    driver = start_jobs("transfer", str(file), cwd=tmp_path, output=log, **ray_session.for_stages)
    assert wait_for(lambda: len(finished_points(run, points)) >= 2, driver), log.read_text()
    driver.kill()
    driver.wait()
    first = ended("transfer", str(file))
    records = finished_points(run, points)
    assert [*records] == points, "all are there"
    by_attempt = {attempt: [p for p in points if records[p].about["attempt"] == attempt] for attempt in (1, 2)}
    assert by_attempt[1] == points[: len(by_attempt[1])] and len(by_attempt[1]) >= 2, "none was taken again"
    assert by_attempt[2], "it was killed before the last"
    done = sum(records[point].about["num_steps"] for point in by_attempt[1])
    assert sessions(run, 2) == [done], "one group of workers trained all that were left"
    assert {row["point"] for row in read_metrics(run) if row["step"] > done} == {p.id for p in by_attempt[2]}

    again = ended("transfer", str(file))
    assert attempt_numbers(run) == [1, 2], "the same command does nothing"
    assert again.out == first.out[-len(again.out) :] and "transfer: 8 points" in again.out
    assert finished_points(run, points) == records

    result = newest_result(run)
    assert result is not None and result["num_points"] == 8
    results = storage / result["results"]
    assert {*(read_manifest(results) or pytest.fail("absent")).files} == {
        "transfer.json",
        "transfer.csv",
        "report.html",
    }
    content = results.read_json("transfer.json")
    assert len(content["cells"]) == 8 and len(content["differences"]) == 4
    assert content["pretraining"]["device_seconds"] == 100.0
    assert result["told"] == [
        line.removeprefix("transfer: ") for line in again.out.splitlines()[-len(result["told"]) - 1 : -1]
    ]

    for point in (points[-2], points[-1]):  # from the model, and from random weights
        labelled = find_published(storage, records[point].about["data"]["hash"])
        assert labelled is not None and labelled.num_rows("train") == 18 and labelled.splits == ["train", "validation"]
        settings = json.loads(config.settings_of(point).model_dump_json())
        plain = {"name": f"plain-{point.weights}", "storage": str(tmp_path / "runs"), "base": str(tmp_path / "base")}
        plain |= {"data": labelled.folder.url, **settings}
        ended("finetune", str(write_config(tmp_path / f"{point.weights}.yaml", plain)))
        beside = newest_result(storage / plain["name"])
        assert beside is not None and beside["num_steps"] == records[point].about["num_steps"] == 18
        assert _losses(storage / plain["name"]) == _losses(run, point.id), point.weights
        assert beside["newest_metrics"]["validation_loss"] == records[point].about["validation_loss"]
        told = pq.read_table(Path(point_folder(run, point).url) / PREDICTIONS)
        right = [
            one == other for one, other in zip(told["label"].to_pylist(), told["prediction"].to_pylist(), strict=True)
        ]
        assert beside["newest_metrics"]["validation_accuracy"] == pytest.approx(sum(right) / len(right))
