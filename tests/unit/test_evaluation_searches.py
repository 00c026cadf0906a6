"""A search's trials are read as they are: those that have ended, and of a closed search every one."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from pydantic import ValidationError

from llmcore.config.finetune import FinetuneSettings
from llmcore.config.tune import TuneConfig
from llmcore.errors import CorpusError, RunError
from llmcore.evaluation.candidates import candidates_hash
from llmcore.evaluation.searches import Search, with_values
from llmcore.storage import Folder
from llmcore.tasks.evaluation_set import write_evaluation_set
from llmcore.tasks.references import find_evaluation_set


def write_trial(search: Folder, name: str, status: str, model: str | None = "search/trials/x/exports/s") -> None:
    record = {"id": name, "status": status, "config": {}, "model": model, "model_sha256": model and "abc"}
    (search / "trials" / name).write_json("trial.json", record | {"error": None, "num_steps": 3, "seed": 0})


@pytest.fixture
def search(tmp_path: Path) -> Search:
    return Search(Folder(str(tmp_path / "search")), prefix="search/")


def test_before_it_is_closed_a_search_shows_ended_trials_alone(search: Search) -> None:
    assert (search.candidates(), search.closed(), search.config()) == ([], None, None)
    write_trial(search.folder, "b", "stopped")
    write_trial(search.folder, "a", "finished", model=None)
    write_trial(search.folder, "c", "running")
    (search.folder / "trials" / "d").write_text("trial.json", '{"id":')
    first, second = search.candidates()
    assert (first.id, first.model) == ("search/a", None)
    assert second.model == search.folder / "trials/x/exports/s"


def test_of_a_closed_search_no_trial_is_left_out(search: Search) -> None:
    write_trial(search.folder, "a", "finished")
    (search.folder / "trials" / "b").write_text("trial.json", "torn")
    write_trial(search.folder, "stray", "finished")
    search.folder.write_json("search.json", {"closed": True, "num_trials": 3, "trials": ["c", "a", "b"]})
    trials = search.candidates()
    assert [(trial.id, trial.status) for trial in trials] == [
        ("search/a", "finished"), ("search/b", "failed"), ("search/c", "failed")
    ]  # fmt: skip
    assert trials[1].error is not None and "trials/b/trial.json" in trials[1].error


def test_the_hash_of_trials_changes_with_what_there_is_to_judge(search: Search) -> None:
    write_trial(search.folder, "a", "finished")
    before = candidates_hash(search.candidates(), "set")
    assert before == candidates_hash(search.candidates(), "set")
    write_trial(search.folder, "a", "failed")
    changed = candidates_hash(search.candidates(), "set")
    write_trial(search.folder, "b", "finished")
    assert len({before, changed, candidates_hash(search.candidates(), "set")}) == 3


def test_another_kind_of_run_is_refused(search: Search) -> None:
    search.folder.write_json("run.json", {"kind": "pretrain"})
    search.folder.write_text("config.yaml", "{}")
    with pytest.raises(RunError, match="is a 'pretrain' run"):
        search.config()


def test_a_search_knows_its_labelled_set_when_the_files_have_gone(search: Search, tmp_path: Path) -> None:
    rows = {"id": ["1", "2"], "text": ["one", "two"], "label": pa.array([0, 1], pa.int32()), "group": ["g", "g"]}
    labelled = write_evaluation_set(Folder(str(tmp_path)), "x", ["a", "b"], {"train": [pa.table(rows)]})
    tune = {"name": "search", "base": "b", "finetune": {"train": {"num_epochs": 1}}}
    tune |= {"data": {"train": "gone.csv"}, "space": {"train.seed": {"choice": [0]}}}
    config = TuneConfig.model_validate(tune)
    search.folder.write_json("run.json", {"kind": "tune", "inputs": {"data": labelled.hash}})
    search.folder.write_text("config.yaml", yaml.safe_dump(config.model_dump(mode="json")))
    made = search.fine_tuning()
    assert made is not None and made.learnt() == labelled
    labelled.folder.delete()
    with pytest.raises(CorpusError, match=r"the labelled set that .*search learns has gone"):
        made.learnt()


def test_a_trials_values_stand_in_its_settings() -> None:
    base = FinetuneSettings.model_validate({"train": {"num_steps": 5}})
    values: dict[str, Any] = {
        "train.optimizer.learning_rate": 0.5,
        "train.optimizer.betas": [0.8, 0.9],
        "weights": "random",
    }
    changed = with_values(base, values)
    assert (changed.train.optimizer.learning_rate, changed.train.optimizer.betas) == (0.5, (0.8, 0.9))
    assert (changed.weights, changed.train.num_steps) == ("random", 5)
    assert with_values(base, {}) == base
    with pytest.raises(RunError, match=r"train\.optimiser\.lr=1"):
        with_values(base, {"train.optimiser.lr": 1})
    with pytest.raises(ValidationError, match="greater than 0"):
        with_values(base, {"train.optimizer.learning_rate": -1.0})


def test_a_reference_to_no_labelled_set_says_what_there_is(tmp_path: Path) -> None:
    storage = Folder(str(tmp_path))
    with pytest.raises(CorpusError, match="neither"):
        find_evaluation_set(storage, "areas")
    with pytest.raises(CorpusError, match=r"no finished run 'my\.prepare'"):
        find_evaluation_set(storage, "my.prepare/areas")
    end = {"status": "succeeded", "result": {"labelled_sets": {"kinds": "artifacts/evaluation-sets/x"}}}
    (storage / "my.prepare" / "attempts" / "01").write_json("end.json", end)
    with pytest.raises(CorpusError, match=r"no labelled set 'areas', only \['kinds'\]"):
        find_evaluation_set(storage, "my.prepare/areas")
