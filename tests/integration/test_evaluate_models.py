"""Models that are named are judged as trials are: all on validation, the chosen one and the baselines on test."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.evaluate import finished, plan, result_line
from jobs.runtime.scorers import Evaluator, Scorers, _Published, _Scorer, portions
from llmcore.cost import Ledger
from llmcore.errors import ConfigError, CorpusError, SandboxError
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.results import stored_evaluation
from llmcore.evaluation.score import Scorer
from llmcore.evaluation.suite import Suite
from llmcore.storage import Folder, publish
from llmcore.tasks.code_generation import CodeGeneration
from llmcore.tasks.columns import KINDS
from llmcore.tasks.evaluation_set import write_evaluation_set
from tests.judged import TASK, WORDS, InProcess, World, four_trials
from tests.killed_workers import first_killed
from tests.sandboxes import needs_namespaces
from tests.writers import write_writer

MODELS = {"first": "run1", "second": "run2"}


def two_runs(world: World) -> None:
    for seed in (1, 2):
        world.finetuned(f"run{seed}", seed)


def judged(world: World, **changes: Any) -> dict[str, Any]:
    return world.evaluate(**{"searches": [], "models": MODELS} | changes)


def test_models_of_runs_are_judged_on_what_they_have_learnt(world: World, judge: type[InProcess]) -> None:
    two_runs(world)
    result = judged(world)
    content = world.metrics()
    validation = {model["id"]: model["validation"]["macro_f1"]["value"] for model in content["models"]}
    best = max(("first", "second"), key=lambda name: validation[name])
    assert (content["chosen"], result["chosen"]) == (best, f"model {best}")
    assert f"evaluate: model {best} has test macro_f1" in result_line(result, world.storage)
    expected = {"model first validation": 1, "model second validation": 1, f"model {best} test": 1}
    assert judge.scored == Counter(expected | {"the random-weights baseline test": 1})
    assert world.looks() == content["register_looks"] == 3
    assert content["set"]["hash"] == world.labelled.hash
    assert "the search" not in content["note"]
    assert [model["num_steps"] for model in content["models"] if model["id"] == "second"] == [20]

    (twin,) = world.twins
    assert (twin.weights, twin.base, twin.train.seed) == ("random", "base", int(MODELS[best][-1]))
    assert (twin.train.num_epochs, twin.train.stop_after) == (2, None), "all steps that the run had"


def test_the_same_command_again_finds_the_work_done_until_a_model_is_another(
    world: World, judge: type[InProcess]
) -> None:
    two_runs(world)
    first = judged(world)
    config = world.config(searches=[], models=MODELS)
    assert finished(config, world.storage) == json.loads(json.dumps(first))
    world.finetuned("run2", 3)
    assert finished(config, world.storage) is None
    judged(world)
    assert judge.scored["model second validation"] == 2 and judge.scored["model first validation"] == 1


def test_models_stand_beside_the_trials_of_searches(world: World, judge: type[InProcess]) -> None:
    four_trials(world)
    world.finetuned("run1", 5)
    world.finetuned("run2", 2)  # the same bytes as a trial's model: it is judged once
    world.evaluate(models=MODELS, data=world.labelled.folder.url)
    ids = {model["id"] for model in world.metrics()["models"]}
    assert ids == {"first", "second", *(f"search/t{number}" for number in (1, 2, 3, 4))}
    on_validation = [f"trial search/t{number} validation" for number in (1, 2, 3)]
    assert sorted(name for name in judge.scored if "validation" in name) == ["model first validation", *on_validation]
    assert "the search ran for the pre-trained model alone" in world.metrics()["note"]


def test_a_published_model_by_its_url_is_judged_on_the_data_that_is_given(
    world: World, judge: type[InProcess], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = Folder(str(tmp_path / "elsewhere" / "some-model"))
    world.model(alone, 4)
    lines = [f"{WORDS[row % 3]} {row},{('files', 'text', 'time')[row % 3]}\n" for row in range(60)]
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(lines))
    data = {"train": str(tmp_path / "rows.csv"), "carve": {"validation": 0.3, "test": 0.3}}
    models = {"alone": alone.url, "run": str(tmp_path / "run1" / "model")}
    world.finetuned("run1", 1)
    given = {"models": models, "data": data, "baselines": ["majority"]}
    judged(world, **given)
    assert {model["id"] for model in world.metrics()["models"]} == {"alone", "run"}
    assert world.metrics()["set"]["hash"] != world.labelled.hash
    assert "model alone has learnt other data; rows of 'data' may stand there" in capsys.readouterr().out

    with pytest.raises(ConfigError, match="how alone was fine-tuned is not recorded beside it: name its run instead"):
        judged(world, name="twin", **given | {"baselines": None})
    with pytest.raises(ConfigError, match="what alone has learnt is not recorded beside it: give `data`"):
        judged(world, name="set", **given | {"data": None})
    judged(world, name="by-url", models={"run": models["run"]})
    assert world.twins[-1].base == "base", "a run is found by its model's URL"


def test_what_cannot_be_judged_is_refused_before_any_model_is_loaded(
    world: World, judge: type[InProcess], tmp_path: Path
) -> None:
    two_runs(world)
    four_trials(world)
    with publish(Folder(str(tmp_path / "raw")), "model", {}):
        pass
    other_names = {split: [world.labelled.rows(split)] for split in ("train", "validation", "test")}  # type: ignore[arg-type]
    renamed = write_evaluation_set(world.storage, "renamed", ["a", "b", "c"], other_names)  # type: ignore[arg-type]
    halved = {split: [world.labelled.rows(split)] for split in ("train", "validation")}  # type: ignore[arg-type]
    half = write_evaluation_set(world.storage, "half", TASK.label_names, halved)  # type: ignore[arg-type]
    for number, (asked, error, said) in enumerate(
        [
            ({"models": {"x": "run9"}}, ConfigError, r"models\.x='run9': there is no complete model at .*/run9"),
            ({"models": {"x": str(tmp_path / "raw")}}, ConfigError, "was not fine-tuned here"),
            ({"data": renamed.folder.url}, ConfigError, r"models\.first tells one of \['files', 'text', 'time'\], and"),
            ({"data": half.folder.url}, CorpusError, "evaluation set 'half' has no test split"),
            ({"searches": ["search"], "data": half.folder.url}, ConfigError, "there are different labelled sets"),
            ({"generation": {"method": "beam"}}, ConfigError, "first, a text_classification model, writes none"),
            ({"metrics": ["bleu"]}, ConfigError, "'bleu' is no metric of text_classification"),
        ]
    ):
        with pytest.raises(error, match=said):
            judged(world, name=f"refused{number}", **asked)
    assert not judge.scored and world.looks() == 0


@needs_namespaces
def test_programs_that_models_write_are_run_and_judged(
    world: World, judge: type[InProcess], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = KINDS["code_generation"].chosen(["prompt", "solution", "tests"])
    rows = [
        {"id": f"r{n}", "group": f"g{n}", "prompt": f"open {n}", "solution": f"x = {n}", "tests": [f"assert x == {n}"]}
        for n in range(9)
    ]
    tables: Any = {
        split: [pa.Table.from_pylist(rows[first : first + 3], schema=columns.schema())]
        for split, first in (("train", 0), ("validation", 3), ("test", 6))
    }
    labelled = write_evaluation_set(world.storage, "programs", [], tables, columns=columns)
    task = CodeGeneration(32, "perplexity", "{prompt}", 8)
    folder = Folder(str(tmp_path / "coder"))
    about = {"task": task.about(), "data": {"hash": labelled.hash}}
    with publish(folder, "model", about) as publication, publication.staging() as staged:
        write_writer(staged, "gpt2")
    generation = {"method": "sample", "num_samples": 3}
    given = {"models": {"coder": folder.url}, "data": labelled.folder.url, "baselines": []}
    judged(world, **given, metrics=["pass_at_1", "pass_at_2"], generation=generation)
    assert world.metrics()["suite"]["generation"]["num_samples"] == 3
    table = pq.read_table(f"{world.storage.url}/judged/evaluation/predictions.parquet")
    assert table.num_rows == 6 and table["num_samples"].to_pylist() == [3] * 6
    right = [outcomes.count("passed") for outcomes in table["outcomes"].to_pylist()]
    assert table["num_correct"].to_pylist() == right
    [model] = world.metrics()["models"]
    assert model["test"]["pass_at_1"]["value"] == pytest.approx(sum(right[3:]) / 9)
    assert "learnt other data" not in capsys.readouterr().out


def test_where_programs_cannot_be_confined_a_scorer_says_so_before_it_loads_a_model(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise SandboxError("generated code is not run: not in force here")

    monkeypatch.setattr("llmcore.evaluation.sandbox.check.check_sandbox", refuse)
    code = Suite(world.labelled.hash, Subject("code_generation"), ("pass_at_1",), "pass_at_1", 100, 0)
    _Scorer(1).ready(replace(code, metrics=("bleu",), choose_by="bleu"))
    with pytest.raises(SandboxError, match="not in force here"):
        _Scorer(1).ready(code)


def test_a_search_is_no_model(world: World, judge: type[InProcess]) -> None:
    (world.search / "attempts" / "01").write_json("end.json", {"status": "succeeded", "result": {"best_trial": "t1"}})
    with pytest.raises(ConfigError, match="is a run that leaves no model; `searches` names `tune` runs"):
        judged(world, models={"x": "search"})


def test_a_dry_run_says_what_is_judged(world: World) -> None:
    first, second = plan(world.config(models=MODELS, data="my.prepare/areas", choose_by="accuracy"))
    assert first.startswith("Judges every trial of search, first (run1), second (run2) on validation of my.prepare/are")
    assert "Chooses by validation accuracy" in second


@given(num_rows=st.integers(1, 30_000), num_scorers=st.integers(1, 9))
def test_each_row_is_in_one_portion_in_the_order_of_the_set(num_rows: int, num_scorers: int) -> None:
    parts = portions(num_rows, num_scorers)
    assert [row for part in parts for row in part] == list(range(num_rows))
    sizes = [len(part) for part in parts]
    assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1 and max(sizes) <= 4096
    assert len(parts) >= min(num_rows, num_scorers)


def test_a_scorer_loads_a_model_once_for_all_its_portions(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    load = Scorer.load
    monkeypatch.setattr(Scorer, "load", lambda *of, **how: loaded.append(how["sha256"]) or load(*of, **how))
    suite = Suite(world.labelled.hash, Subject.of(world.labelled), ("accuracy",), "accuracy", 100, 0)
    evaluator = Evaluator(world.storage, world.labelled, suite, {}, 256, Scorers(1, 0.5, 0.0), Ledger(1, "cpu"))
    models = [_Published(name, world.storage / name / "model", world.finetuned(name, int(name[-1]))) for name in
              ("run1", "run2")]  # fmt: skip
    actor = _Scorer(1)
    for model in models:
        said = [actor.predict(evaluator, model, "test", portion) for portion in portions(24, 2)]
        actor.judge(evaluator, model, "test", *said)
        stored = stored_evaluation(world.storage, model.sha256, suite, "test")
        assert stored is not None and stored.predictions()["id"].equals(world.labelled.rows("test")["id"])
        with pytest.raises(ValueError, match="predictions for 21 rows, not the 24"):
            actor.judge(evaluator, model, "test", *said[1:])
    assert loaded == [model.sha256 for model in models]
    # Of another set of the same evaluation: how a model writes may be another there.
    other = replace(evaluator, suite=replace(suite, num_resamples=200))
    actor.predict(other, models[-1], "test", range(3))
    assert loaded == [*(model.sha256 for model in models), models[-1].sha256]


@pytest.mark.usefixtures("ray_session")
def test_two_scorers_say_what_one_says_and_one_that_is_killed_is_started_again(world: World) -> None:
    two_runs(world)
    one = judged(world, baselines=["majority"])
    alone = pq.read_table(f"{world.storage.url}/judged/evaluation/predictions.parquet")

    (world.storage / "artifacts").delete("evaluations")
    with first_killed("_Scorer.predict") as killed:
        two = judged(world, name="divided", num_scorers=2, baselines=["majority"])
    assert len(killed) == 1
    divided = pq.read_table(f"{world.storage.url}/divided/evaluation/predictions.parquet")
    assert (one["chosen"], one["test"]) == (two["chosen"], two["test"])
    for name in ("model", "split", "id", "prediction"):
        assert divided[name].equals(alone[name]), name
    for row, other in zip(alone["probabilities"].to_pylist(), divided["probabilities"].to_pylist(), strict=True):
        assert row == pytest.approx(other, abs=1e-5)


@pytest.mark.usefixtures("ray_session")
def test_more_scorers_than_the_cluster_holds_are_refused(world: World) -> None:
    two_runs(world)
    with pytest.raises(ConfigError, match=r"num_scorers needs 9 × 0\.5 CPU, the cluster has 2"):
        judged(world, num_scorers=9)
