"""The shared evaluation job: judges trials as they land, chooses on validation, looks at the test split once."""

import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import jobs.runtime.judging
from jobs.evaluate import finished, result_line
from jobs.promote import result_line as promoted_line
from jobs.promote import show_lineage
from llmcore.errors import CheckpointError, ConfigError, RunChangedError, RunError
from llmcore.report import gather, render
from llmcore.storage import read_manifest
from llmcore.tasks.evaluation_set import write_evaluation_set
from tests.judged import TASK, InProcess, World, damage, four_trials

EXPECTED = Counter({f"trial t{number} validation": 1 for number in (1, 2, 3)} | {"the random-weights baseline test": 1})


def test_all_trials_are_judged_and_the_test_split_is_opened_for_few(world: World, judge: type[InProcess]) -> None:
    four_trials(world)
    result = world.evaluate(follow=True)
    content = world.metrics()
    chosen, runner_up = content["chosen"], content["leaders"]["runner_up"]
    assert judge.scored == EXPECTED | {f"trial {one} test": 1 for one in (chosen, runner_up)}
    assert world.looks() == content["register_looks"] == 4

    validation = {model["id"]: model["validation"] for model in content["models"]}
    assert validation["t4"] is None and set(validation) == {"t1", "t2", "t3", "t4"}
    assert [chosen, runner_up] == sorted(("t1", "t2", "t3"), key=lambda one: -validation[one]["macro_f1"]["value"])[:2]
    assert content["leaders"]["difference"] == content["differences"]["chosen - runner_up"]["macro_f1"]
    low, high = (content["leaders"]["difference"][end] for end in ("low", "high"))
    assert content["leaders"]["chosen_is"] == ("better" if low > 0 else "worse" if high < 0 else "not distinguishable")
    assert [model["id"] for model in content["models"] if model["test"] is not None] == [chosen]
    assert next(model["error"] for model in content["models"] if model["id"] == "t4") == "rank 1 died\nof memory"
    assert set(content["differences"]) == {f"chosen - {name}" for name in ("majority", "random_weights", "runner_up")}
    assert content["baselines"]["majority"]["majority_of"] == "train"
    assert (result["num_models"], result["num_failed"]) == (4, 1)
    line = result_line(result, world.storage)
    assert f"trial {chosen} has test macro_f1" in line and f" {runner_up}, the next on validation; look 4" in line

    details = content["details"]
    assert set(details) == {chosen, "majority", "random_weights", "runner_up"}
    by_label = details[chosen]["slices"]["label"]
    assert {name: part["num_rows"] for name, part in by_label.items()} == {"files": 8, "text": 8, "time": 8}
    accuracy = [part["metrics"]["accuracy"]["value"] for part in by_label.values()]
    test = next(model["test"] for model in content["models"] if model["id"] == chosen)
    assert sum(accuracy) / 3 == pytest.approx(test["accuracy"]["value"])
    assert sum(count for *_, count in details[chosen]["figures"]["confusion"]) == 24

    folder = Path(world.storage.url) / "judged" / "evaluation"
    predictions = pq.read_table(folder / "predictions.parquet")
    counts = Counter(zip(predictions["model"].to_pylist(), predictions["split"].to_pylist(), strict=True))
    on_test = {(name, "test"): 24 for name in (chosen, "majority", "random_weights", "runner_up")}
    assert counts == {(f"t{number}", "validation"): 18 for number in (1, 2, 3)} | on_test
    assert len((folder / "leaderboard.csv").read_text().splitlines()) == 5


def test_the_report_reads_what_an_evaluation_has_written(world: World, judge: type[InProcess]) -> None:
    four_trials(world)
    world.evaluate(name="tiny.evaluate")
    report = gather(world.storage, "tiny")
    assert report.problems == ()
    by_label = {part.name: part.num_rows for part in report.evaluations[0].closer.slices if part.by == "label"}
    assert by_label == {"files": 8, "text": 8, "time": 8}
    assert {name: sum(counts) for name, counts in report.evaluations[0].closer.confusion.items()} == by_label
    assert sum(one.num for one in report.evaluations[0].closer.calibration) == 24
    assert "The chosen model on parts of the test split" in render(report)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"metrics": ["bleu"]},
            "evaluation set 'areas': 'bleu' is no metric of text_classification: there are accuracy",
        ),
        ({"choose_by": "f1_by_class"}, "f1_by_class is one number a class"),
        ({"metrics": ["example_roc_auc"]}, "example_roc_auc is defined for several labels a row"),
        (
            {"baselines": ["lead_3"]},
            "'lead_3' is no baseline of text_classification: there is majority, random_weights",
        ),
    ],
)
def test_what_is_not_of_the_task_is_refused_before_a_model_is_judged(
    world: World, judge: type[InProcess], given: dict[str, Any], said: str
) -> None:
    four_trials(world)
    with pytest.raises(ConfigError, match=said):
        world.evaluate(**given)
    assert not judge.scored and world.looks() == 0


def test_the_twin_has_the_chosen_trials_settings_seed_and_step(world: World, judge: type[InProcess]) -> None:
    four_trials(world)
    world.evaluate()
    content = world.metrics()
    number = int(content["chosen"].removeprefix("t"))
    (twin,) = world.twins
    assert (twin.name, twin.weights, twin.base) == ("judged.random-weights", "random", "base")
    assert twin.train.seed == number
    assert twin.train.optimizer.learning_rate == pytest.approx(1e-4 * number)
    assert (twin.train.num_epochs, twin.train.stop_after) == (3, 10 * number)
    baseline = content["baselines"]["random_weights"]
    assert baseline["num_steps"] == baseline["chosen_num_steps"] == 10 * number


@pytest.mark.parametrize("die_after", range(6))
def test_whatever_is_killed_nothing_is_judged_twice_and_no_look_is_counted_twice(
    world: World, judge: type[InProcess], die_after: int
) -> None:
    four_trials(world)
    judge.die_after = die_after
    with pytest.raises(KeyboardInterrupt):
        world.evaluate()
    judge.die_after = float("inf")
    world.evaluate()
    leaders = (world.metrics()["chosen"], world.metrics()["leaders"]["runner_up"])
    assert judge.scored == EXPECTED | {f"trial {one} test": 1 for one in leaders}
    assert world.looks() == 4


def test_the_same_command_again_finds_the_work_done(world: World, judge: type[InProcess]) -> None:
    four_trials(world)
    first = world.evaluate()
    assert finished(world.config(), world.storage) == json.loads(json.dumps(first))
    world.evaluate()
    assert (len(world.twins), len((world.storage / "judged" / "attempts").names())) == (1, 1)

    world.trial("t5")
    world.close_search("t1", "t2", "t3", "t4", "t5")
    again = world.evaluate()
    assert again["num_models"] == 5
    assert judge.scored["trial t5 validation"] == 1
    assert max(judge.scored.values()) == 1


def test_trials_are_judged_as_they_land_until_the_search_is_closed(world: World, judge: type[InProcess]) -> None:
    names = [f"trial t{number} validation" for number in (1, 2)]
    judge.heard |= {name: threading.Event() for name in names}
    outcome: dict[str, Any] = {}
    thread = threading.Thread(target=lambda: outcome.update(world.evaluate(follow=True)))
    thread.start()
    world.begin_search()
    world.trial("t1")
    assert judge.heard[names[0]].wait(20)
    (world.search / "trials" / "t2").write_text("trial.json", '{"id": "t2", "status": "fin')
    world.trial("t3", "running")
    assert not judge.heard[names[1]].is_set()
    world.trial("t2")
    assert judge.heard[names[1]].wait(20)
    assert thread.is_alive() and world.looks() == 0
    world.close_search("t1", "t2", "t3")
    thread.join(20)
    assert outcome["num_models"] == 3
    lost = next(model for model in world.metrics()["models"] if model["id"] == "t3")
    assert lost["status"] == "failed" and "says of no end" in lost["error"]


def test_waiting_can_be_interrupted(world: World, judge: type[InProcess], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jobs.evaluate.time.sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        world.evaluate(follow=True)
    end = (world.storage / "judged" / "attempts" / "01").read_json("end.json")
    assert end["status"] == "interrupted"


def test_when_all_trials_failed_they_are_named(world: World, judge: type[InProcess]) -> None:
    world.begin_search()
    world.trial("t1", "failed", model=None, error="out of memory")
    world.trial("t2", "failed", error="non-finite loss at step 7")
    world.close_search("t1", "t2")
    with pytest.raises(RunError, match=r"none of 2 trials.*t1: out of memory; t2: non-finite loss at step 7"):
        world.evaluate()
    assert world.looks() == 0


def test_what_is_not_there_or_does_not_belong_together_is_said(world: World, judge: type[InProcess]) -> None:
    with pytest.raises(ConfigError, match=r"no `tune` run at .*/search"):
        world.evaluate()
    four_trials(world)
    other = {"train": [world.labelled.rows("train")], "validation": [world.labelled.rows("test")]}
    another = write_evaluation_set(world.storage, "other", TASK.label_names, other)  # type: ignore[arg-type]
    search = world.storage / "search2"
    search.write_json("run.json", {"kind": "tune"})
    config = world.search.read_text("config.yaml").replace(world.labelled.hash, another.hash)
    search.write_text("config.yaml", config)
    with pytest.raises(ConfigError, match="different labelled sets"):
        world.evaluate(name="two", searches=["search", "search2"])


def test_an_altered_model_is_named(world: World, judge: type[InProcess]) -> None:
    four_trials(world)
    damage(world, "t2/exports/step-00000020-attempt-01")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        world.evaluate()


@pytest.mark.usefixtures("ray_session")
def test_the_scoring_process_gives_the_same_results_and_names_a_broken_model(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    four_trials(world)
    result = world.evaluate()
    cost = (world.storage / "judged" / "attempts" / "01").read_json("cost.json")
    assert cost["seconds"]["validation"] > 0 and cost["start_up_parts"]["imports"] > 0

    monkeypatch.setattr(jobs.runtime.judging, "Evaluator", InProcess)
    InProcess.scored, InProcess.heard, InProcess.die_after = Counter(), {}, float("inf")
    (world.storage / "artifacts").delete("evaluations")
    again = world.evaluate(name="again")
    assert (again["chosen"], again["test"]) == (result["chosen"], result["test"])
    assert again["register_looks"] == 4  # the same models, by the same suite

    monkeypatch.undo()
    world.trial("t5")
    damage(world, "t5/exports/step-00000050-attempt-01")
    world.close_search("t1", "t2", "t3", "t4", "t5")
    with pytest.raises(CheckpointError, match=r"trial t5: .*model\.safetensors"):
        world.evaluate(name="broken")


def test_the_winner_is_published_with_what_it_was_made_of(
    world: World, judge: type[InProcess], capsys: pytest.CaptureFixture[str]
) -> None:
    four_trials(world)
    world.evaluate()
    content = world.metrics()
    table = (world.storage / "judged" / "evaluation").read_text("leaderboard.md")
    assert f"Chosen by validation macro_f1: **{content['chosen']}**; on test 0." in table
    assert table.count("\n| ") == 2 + 4 and "rank 1 died of memory" in table
    assert "chosen - runner up: " in table and "Looks at this test split: 4." in table

    first = world.promote("judged", "best")
    assert world.promote("judged", "best") == json.loads(json.dumps(first)), "it is found done"
    assert promoted_line(first, world.storage).startswith(f"promote: trial {content['chosen']} of judged is ")
    best = world.storage / "best"
    assert len((best / "attempts").names()) == 1
    chosen = read_manifest(
        world.search / "trials" / content["chosen"] / "exports" / f"step-000000{content['chosen'][1]}0-attempt-01"
    )
    published = read_manifest(best / "model")
    assert chosen is not None and published is not None and published.sha256 == chosen.sha256
    capsys.readouterr()
    show_lineage("best", world.storage.url, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("best  (promote, ") and f"chosen trial {content['chosen']}" in lines[0]
    assert lines[1].startswith("├─ judged  (evaluate, ") and lines[2].startswith("│  └─ search  (tune, ")
    assert lines[3].startswith("└─ search  (tune, ") and lines[3].endswith(", above)")
    show_lineage("best", world.storage.url, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert [parent["name"] for parent in told["parents"]] == ["judged", "search"]

    world.trial("t5")
    world.close_search("t1", "t2", "t3", "t4", "t5")
    world.evaluate(name="later")
    with pytest.raises(RunChangedError, match="run 'best' exists"):
        world.promote("later", "best")
    with pytest.raises(ConfigError, match="no `evaluate` run that has chosen"):
        world.promote("search", "best")
    with pytest.raises(ConfigError, match="there is no run"):
        show_lineage("nothing", world.storage.url, as_json=False)
