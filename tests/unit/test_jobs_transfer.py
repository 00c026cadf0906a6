"""What a transfer says before it begins and after, and where the cost of its pre-training is known from."""

from pathlib import Path

import pytest

from jobs.plan import _kind
from jobs.transfer import _pretraining, _publish, course, finished, result_lines
from llmcore.config.common import JobSettings
from llmcore.config.transfer import Point, TransferConfig
from llmcore.errors import CorpusError
from llmcore.evaluation.transfer import PretrainingCost
from llmcore.records import Timing, begin_attempt
from llmcore.storage import Folder, read_manifest
from tests.bases import write_early_or_late
from tests.transfers import given_outcome, transfer_config, write_point

FAST = Timing(beat_s=0.05, stale_s=0.3, drained_s=0.1)
POINT = Point("pretrained", 10, 1.0, 0)


def _pretrained(storage: Folder, device: str = "cpu") -> None:
    settings = JobSettings(name="base")
    with begin_attempt(storage, settings, kind="pretrain", step_version=1, inputs={}, timing=FAST) as attempt:
        attempt.ledger.hold(2, device)
        attempt.ledger.add("compute", 30.0)
        attempt.ledger.count(flops=5e9)


def test_the_cost_of_the_base_is_read_from_its_attempts(tmp_path: Path) -> None:
    storage = Folder(str(tmp_path))
    _pretrained(storage)
    write_point(storage / "bought", POINT, 3, 1.0)
    found = _pretraining(transfer_config(), storage)
    assert found.device_seconds == pytest.approx(60.0)
    assert (found.flops, found.source) == (5e9, "the attempts of base")


def test_what_is_given_counts_first(tmp_path: Path) -> None:
    storage = Folder(str(tmp_path))
    _pretrained(storage)
    write_point(storage / "bought", POINT, 3, 1.0)
    found = _pretraining(transfer_config(pretraining={"device_seconds": 7.0}), storage)
    assert found == PretrainingCost(7.0, 5e9, "pretraining in the configuration; the attempts of base")
    both = _pretraining(transfer_config(pretraining={"device_seconds": 7.0, "flops": 1.0}), storage)
    assert both == PretrainingCost(7.0, 1.0, "pretraining in the configuration")


def test_seconds_of_another_device_are_not_compared(tmp_path: Path) -> None:
    storage = Folder(str(tmp_path))
    _pretrained(storage, "NVIDIA H100")
    write_point(storage / "bought", POINT, 3, 1.0)
    found = _pretraining(transfer_config(), storage)
    assert (found.device_seconds, found.flops) == (None, 5e9)
    assert "seconds of NVIDIA H100 are not those of cpu" in found.source


def test_of_another_makers_model_nobody_knows(tmp_path: Path) -> None:
    found = _pretraining(transfer_config(base="/models/other"), Folder(str(tmp_path)))
    assert (found.device_seconds, found.flops) == (None, None)
    assert found.source == "/models/other is no run that trained here, and pretraining.device_seconds is not given"


def test_the_course_says_how_many_steps_there_are() -> None:
    config = transfer_config(train={"global_batch_size": 5}, epochs=[1, 2], seeds=[3])
    told = course(config)
    assert "8 points, one after the other on 2 workers, ZeRO-2" in told[0]
    assert told[1] == f"Labels: 10, 100; epochs: 1, 2; seeds: 3; {2 * (2 + 4 + 20 + 40)} steps in all"
    assert "the test split is not opened" in told[2]


def test_results_are_published_and_told(tmp_path: Path) -> None:
    points = {POINT: (30, 2.0), POINT._replace(weights="random"): (20, 2.0)}
    outcome, run = given_outcome(tmp_path, points), Folder(str(tmp_path)) / "bought"
    result = _publish(outcome, run, 4)
    manifest = read_manifest(run / "transfer")
    assert manifest is not None and {*manifest.files} == {"transfer.json", "transfer.csv", "report.html"}
    *told, last = result_lines(result, Folder(str(tmp_path)))
    assert len(told) == len(result["told"]) >= 3
    assert last == f"transfer: 4 points, in {tmp_path}/bought/transfer"


def test_more_labels_than_rows_are_refused_before_a_worker_starts(tmp_path: Path) -> None:
    given = {"name": "a", "base": str(tmp_path / "base"), "data": write_early_or_late(tmp_path), "labels": [18, 19]}
    config = TransferConfig.model_validate(given | {"epochs": [1], "task": {"max_tokens": 16}})
    with pytest.raises(CorpusError, match="labels has 19 rows, and the train split of data has 18"):
        finished(config, Folder(str(tmp_path / "runs")))


def test_a_plan_knows_it_by_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "transfer.yaml"
    path.write_text("name: a\nbase: b\ndata: p/d\nlabels: [1]\nepochs: [1]\n")
    assert _kind(path, []) is TransferConfig
