"""`make proof TOPIC=search`: twelve trials of two workers on SST-2 from a real encoder, judged beside the search."""

from typing import Any

import pytest

from llmcore.records import newest_result
from tests.shared_data import DATA, needs_data, needs_encoder, real_encoder
from tests.workshop import Workshop

pytestmark = [pytest.mark.proof, pytest.mark.proof_search, pytest.mark.timeout(3 * 3600), needs_data, needs_encoder]

OUTSIDE_S = 12.0
"""Seconds of a trial's slot that are no training, after the first trial."""
TRAINING = ("compute", "data_wait", "validation", "checkpoint")


def test_twelve_trials_on_sst2(tmp_path_factory: pytest.TempPathFactory) -> None:
    workshop = Workshop(tmp_path_factory.mktemp("search"))
    files = {"data.train": str(DATA / "sst2/train.tsv"), "data.test": str(DATA / "sst2/dev.tsv")}
    result = workshop.run_shipped("tune", "sst2.tune", "tune/sst2.yaml", base=real_encoder(), **files)
    print({key: result[key] for key in ("statuses", "causes", "best_trial", "best_value", "device_seconds")})
    assert result["num_trials"] == 12 and not result["statuses"].get("failed")

    trials = workshop.storage / "sst2.tune" / "trials"
    outside: list[float] = []
    for name in trials.names():
        record: dict[str, Any] = trials.find_json(f"{name}/trial.json") or {}
        cost: dict[str, Any] = trials.find_json(f"{name}/cost.json") or {}
        trained = sum(cost["seconds"][part] for part in TRAINING)
        outside.append(record["device_seconds"] / 2 - trained)
        print(f"{name} {record['status']}: {record['config']}: {record['best_value']:.3f}, {outside[-1]:.1f} s outside")
    assert all(seconds <= OUTSIDE_S for seconds in outside[1:])

    workshop.run_shipped("evaluate", "sst2.judged", "evaluate/sst2.yaml")
    content = workshop.judged("sst2.judged")
    print(content["leaders"], content["differences"]["chosen - config"])
    assert len(content["models"]) == 12
    assert newest_result(workshop.storage / "sst2.judged") is not None
