"""A trial's record: its model is its best export, and whether it ended by itself or was stopped."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.runtime.search.plan import SearchPlan
from jobs.runtime.search.records import TrialRecords
from llmcore.config.tune import TuneConfig
from llmcore.cost import Ledger
from llmcore.errors import GateError, RunHeldError, TrialError
from llmcore.records import attempt_folder, check_newest, checkpoint_name
from llmcore.storage import Folder, write_file, write_manifest
from llmcore.train.progress import Progress

KEY = "validation_macro_f1"
TRAIN = {"num_steps": 40, "validate_every": 10, "early_stopping": {"patience": 2}}
LABELLED: Any = SimpleNamespace(
    num_rows=lambda split: 8,
    manifest=SimpleNamespace(
        about={"kind": "text_classification", "label_names": ["a", "b"], "columns": {"text": "", "label": ""}}
    ),
)


def _records(root: Path, trials: list[str], **settings: Any) -> TrialRecords:
    config = {"name": "s", "storage": str(root), "base": "b", "data": "p/d", "finetune": {"train": TRAIN}}
    config |= {"space": {"train.seed": {"integer": [0, 9]}}}
    run = Folder(str(root / "s"))
    attempt: Any = SimpleNamespace(
        run=run, number=1, ledger=Ledger(1, "cpu"), check_newest=lambda: check_newest(run, 1)
    )
    plan = SearchPlan(TuneConfig.model_validate(config | settings), {}, verbose=False)
    records = TrialRecords(attempt, plan, LABELLED)
    for trial in trials:
        records.begin(trial, {"train.seed": 1})
    return records


def _write(folder: Folder, kind: str, about: dict[str, Any]) -> None:
    write_manifest(folder, kind, [write_file(folder, "file", kind.encode())], about)


def _trained(
    records: TrialRecords,
    trial: str,
    told: dict[int, float],
    *,
    without_gain: int = 0,
    gaps: dict[int, float] | None = None,
) -> dict[str, Any]:
    """The record of a trial that validated at these steps."""
    for step, value in told.items():
        gap = {"validation_counterfactual_gap": gaps[step]} if gaps and step in gaps else {}
        about = {"step": step, "metrics": {KEY: value, "validation_loss": 1.0, **gap}}
        _write(records.folder(trial) / "exports" / checkpoint_name(step, 1), "model", about)
        records.reported(trial, {"step": step, KEY: value, "ledger": Ledger(1, "cpu").to_json()})
    progress = Progress(step=max(told), validations_without_gain=without_gain).to_json()
    _write(records.folder(trial) / "checkpoints" / checkpoint_name(max(told), 1), "checkpoint", {"progress": progress})
    line = records.write(trial)
    record = records.folder(trial).find_json("trial.json")
    assert record is not None and f"{record['best_value']:.3f} after {record['best_step']} of {max(told)}" in line
    return record


def test_the_model_is_the_best_export_and_the_first_of_equals(tmp_path: Path) -> None:
    records = _records(tmp_path, ["t0", "t1"])
    record = _trained(records, "t0", {10: 0.5, 20: 0.8, 30: 0.8, 40: 0.6})
    assert (record["status"], record["num_steps"], record["best_step"], record["best_value"]) == (
        "finished",
        40,
        20,
        0.8,
    )
    assert record["model"] == f"s/trials/t0/exports/{checkpoint_name(20, 1)}"
    _trained(records, "t1", {10: 0.7, 20: 0.1, 30: 0.1, 40: 0.75})
    result = records.close()
    assert (result["best_trial"], result["best_value"]) == ("t0", 0.8)


@pytest.mark.parametrize(("without_gain", "status"), [(2, "finished"), (1, "stopped")])
def test_one_that_gained_nothing_more_ended_by_itself(tmp_path: Path, without_gain: int, status: str) -> None:
    record = _trained(_records(tmp_path, ["t0"]), "t0", {10: 0.8, 20: 0.5, 30: 0.6}, without_gain=without_gain)
    assert (record["status"], record["num_steps"], record["best_step"]) == (status, 30, 10)


@pytest.mark.parametrize(("step", "status"), [(40, "finished"), (30, "stopped")])
def test_one_that_took_over_all_steps_with_the_weights_has_none_left(tmp_path: Path, step: int, status: str) -> None:
    records = _records(tmp_path, ["t0"])
    life = records.folder("t0") / "lives/02"
    _write(life / "checkpoints" / checkpoint_name(step, 1), "checkpoint", {"progress": Progress(step=step).to_json()})
    life.write_json("life.json", {"values": {"train.seed": 1}, "donor": "s/trials/t1", "step": step, "told": {}})
    record = _trained(records, "t0", {10: 0.5, 20: 0.8})
    assert (record["status"], record["best_step"]) == (status, 20)


def test_one_without_an_export_has_failed(tmp_path: Path) -> None:
    records = _records(tmp_path, ["t0"])
    assert "it ended without an export" in records.write("t0")
    with pytest.raises(TrialError, match="no trial left a model"):
        records.close()


FAIR = {"train": TRAIN, "fairness": {"max_counterfactual_gap": 0.05}}


def test_the_best_is_the_best_of_those_that_are_fair_enough(tmp_path: Path) -> None:
    records = _records(tmp_path, ["t0", "t1"], finetune=FAIR)
    record = _trained(records, "t0", {10: 0.7, 20: 0.9}, gaps={10: 0.05, 20: 0.2})
    assert (record["best_step"], record["best_value"], record["counterfactual_gap"]) == (10, 0.7, 0.05)
    over = _trained(records, "t1", {10: 0.8, 20: 0.95}, gaps={10: 0.06})
    assert over["best_value"] == 0.95, "it has a model, which may be looked at"
    assert [one.violation for one in records.told()] == [0.0, float("inf")]
    assert records.close()["best_trial"] == "t0"


def test_a_search_without_a_fair_trial_says_how_far_they_are(tmp_path: Path) -> None:
    records = _records(tmp_path, ["t0"], finetune=FAIR)
    _trained(records, "t0", {10: 0.8}, gaps={10: 0.08})
    with pytest.raises(GateError, match=r"max_counterfactual_gap=0.05: the least gap of 1 is 0.0800") as why:
        records.close()
    assert why.value.exit_code == 3


def test_quality_and_fairness_have_a_front(tmp_path: Path) -> None:
    fair = {"train": TRAIN, "fairness": {}}
    settings = {"objectives": ["quality", "counterfactual_gap"], "scheduler": "fifo", "finetune": fair}
    records = _records(tmp_path, ["t0", "t1", "t2"], **settings)
    for trial, value, gap in (("t0", 0.9, 0.2), ("t1", 0.8, 0.1), ("t2", 0.7, 0.15)):
        _trained(records, trial, {10: value}, gaps={10: gap})
    assert [one.worth for one in records.told()] == [(0.9, 0.2), (0.8, 0.1), (0.7, 0.15)]
    assert records.close()["front"] == ["t0", "t1"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"objectives": ["quality", "counterfactual_gap"], "scheduler": "fifo"}, "where finetune.fairness is given"),
        (
            {"finetune": FAIR | {"task": {"kind": "chat"}}},
            "no validation of chat measures that gap",
        ),
        ({"objectives": ["counterfactual_gap"]}, r"give \[quality\], \[quality, device_seconds\] or"),
    ],
)
def test_a_gap_that_nothing_measures_is_refused(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        _records(tmp_path, [], **settings)


def test_a_search_that_stood_still_changes_nothing_that_readers_find(tmp_path: Path) -> None:
    records = _records(tmp_path, ["t0", "t1"])
    _trained(records, "t0", {10: 0.5, 40: 0.8})
    run = Folder(str(tmp_path / "s"))
    run.write_json("search.json", {"closed": True})
    attempt_folder(run, 2).write_json("begin.json", {"attempt": 2})
    seen = {str(file): file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    for write in (
        lambda: records.begin("t2", {"train.seed": 1}),
        lambda: records.write("t1"),
        lambda: list(records.cut_off("the budget")),
        records.reopen,
    ):
        with pytest.raises(RunHeldError, match="attempt 2 has begun while attempt 1 stood still"):
            write()
    records._ended["t1"] = records._ended["t0"]
    with pytest.raises(RunHeldError):
        records.close()
    assert {str(file): file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == seen
