"""`make proof TOPIC=search`: twelve trials of two workers on SST-2 from a real encoder, judged as they land."""

from typing import Any

import pytest

from llmcore.storage import Folder
from tests.drivers import ROOT, ray_folder, start_jobs
from tests.shared_data import DATA, needs_data, needs_encoder, real_encoder
from tests.workshop import Workshop

pytestmark = [pytest.mark.proof, pytest.mark.proof_search, pytest.mark.timeout(3 * 3600), needs_data, needs_encoder]

OUTSIDE_S = 12.0
"""Seconds of a trial's slot that are no training, after the first trial."""
JUDGED_WITHIN_S = 60.0
TRAINING = ("compute", "data_wait", "validation", "checkpoint")


def _written(folder: Folder, name: str) -> float:
    path = folder.local_path()
    assert path is not None
    return (path / name).stat().st_mtime


def test_twelve_trials_on_sst2_are_judged_as_they_land(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("search")
    workshop = Workshop(root)
    files = {"data.train": str(DATA / "sst2/train.tsv"), "data.test": str(DATA / "sst2/dev.tsv")}
    log = root / "evaluate.log"
    with ray_folder() as ray:
        config, storage = str(ROOT / "configs/evaluate/sst2.yaml"), f"storage={workshop.storage.url}"
        beside = start_jobs("evaluate", config, storage, "cluster.num_cpus=1", cwd=root, output=log, RAY_TMPDIR=ray)
        result = workshop.run_shipped("tune", "sst2.tune", "tune/sst2.yaml", base=real_encoder(), **files)
        assert beside.wait(1200) == 0, log.read_text()
    print(log.read_text())
    print({key: result[key] for key in ("statuses", "causes", "best_trial", "best_value", "device_seconds")})
    assert result["num_trials"] == 12 and not result["statuses"].get("failed")

    trials = workshop.storage / "sst2.tune" / "trials"
    evaluations = workshop.storage / "artifacts" / "evaluations"
    judged = {
        manifest["about"]["model_sha256"]: _written(evaluations / name, "manifest.json")
        for name in evaluations.names()
        if (manifest := (evaluations / name).read_json("manifest.json"))["about"]["split"] == "validation"
    }
    outside, waited = [], []
    for name in trials.names():
        record: dict[str, Any] = trials.read_json(f"{name}/trial.json")
        cost: dict[str, Any] = trials.read_json(f"{name}/cost.json")
        outside.append(record["device_seconds"] / 2 - sum(cost["seconds"][part] for part in TRAINING))
        waited.append(judged[record["model_sha256"]] - _written(trials / name, "trial.json"))
        print(f"{name} {record['status']}: {record['config']}: {record['best_value']:.3f} on validation")
    print(f"seconds outside of training: {[round(one, 1) for one in outside]}")
    print(f"judged after {[round(one) for one in waited]} s")
    content = workshop.judged("sst2.judged")
    print(content["leaders"], content["differences"]["chosen - config"])
    assert len(content["models"]) == 12
    assert max(waited) <= JUDGED_WITHIN_S
    assert max(outside[1:]) <= OUTSIDE_S
