"""Several labelled sets in one evaluation: each judged on its own, by processes that all share; one board of all."""

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs import evaluate as job
from jobs.runtime.scorers import Scorers
from llmcore.errors import ConfigError, RunError
from llmcore.records import attempt_folder, attempt_numbers
from llmcore.tasks.evaluation_set import EvaluationSet, write_evaluation_set
from tests.judged import TASK, InProcess, World, four_trials

TWO: dict[str, Any] = {
    "searches": [],
    "sets": {
        "areas": {"searches": ["search"], "baselines": ["majority", "runner_up"]},
        "other": {"models": {"first": "run1", "second": "run2"}, "choose_by": "accuracy", "baselines": ["majority"]},
    },
}


def other_set(world: World) -> EvaluationSet:
    """The rows of the one set, of which each says that it is another."""
    tables = {
        split: [
            (rows := world.labelled.rows(split)).set_column(  # type: ignore[arg-type]
                rows.schema.get_field_index("text"),
                "text",
                pa.array([f"{text} else" for text in rows["text"].to_pylist()]),
            )
        ]
        for split in ("train", "validation", "test")
    }
    return write_evaluation_set(world.storage, "other", TASK.label_names, tables)  # type: ignore[arg-type]


@pytest.fixture
def two(world: World) -> dict[str, Any]:
    """A search, and two models that have learnt another set."""
    four_trials(world)
    other = other_set(world)
    for seed in (1, 2):
        world.finetuned(f"run{seed}", seed, data=other.folder.url)
    return TWO


def statuses(world: World) -> dict[str, str]:
    """How the newest attempt of each of the evaluation's runs has ended."""
    runs = [world.storage / name for name in world.storage.names() if name.startswith("judged")]
    return {run.name: attempt_folder(run, attempt_numbers(run)[-1]).read_json("end.json")["status"] for run in runs}


def test_each_set_has_its_own_verdict_and_all_stand_on_one_board(
    world: World, judge: type[InProcess], two: dict[str, Any]
) -> None:
    result = world.evaluate(**two, follow=True)
    areas, other = result["sets"]["areas"], result["sets"]["other"]
    assert (areas["choose_by"], other["choose_by"]) == ("macro_f1", "accuracy")
    contents = {
        name: (world.storage / f"judged.{name}" / "evaluation").read_json("metrics.json") for name in two["sets"]
    }
    assert contents["areas"]["set"]["hash"] == world.labelled.hash != contents["other"]["set"]["hash"]
    assert contents["areas"]["chosen"] in areas["chosen"] and contents["other"]["chosen"] in other["chosen"]
    assert statuses(world) == dict.fromkeys(("judged", "judged.areas", "judged.other"), "succeeded")

    board = Path(world.storage.url, "judged/evaluation/leaderboard.csv").read_text().splitlines()
    rows = list(csv.DictReader(board))
    of_sets = Counter((row["set"], row["role"]) for row in rows)
    assert of_sets == {
        ("areas", "chosen"): 1, ("areas", "model"): 3, ("areas", "baseline"): 2,
        ("other", "chosen"): 1, ("other", "model"): 1, ("other", "baseline"): 1,
    }  # fmt: skip
    [best] = [row for row in rows if (row["set"], row["role"]) == ("other", "chosen")]
    assert float(best["test"]) == other["test"]["accuracy"]["value"] and best["metric"] == "accuracy"
    assert [row["error"] for row in rows if row["status"] == "failed"] == ["rank 1 died of memory"]
    table = Path(world.storage.url, "judged/evaluation/leaderboard.md").read_text().splitlines()
    assert len(table) == len(rows) + 2

    lines = job.result_line(result, world.storage).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["evaluate, areas", "evaluate, other"]


def test_what_is_judged_is_found_and_what_is_new_is_judged(
    world: World, judge: type[InProcess], two: dict[str, Any]
) -> None:
    first = world.evaluate(**two)
    scored = judge.scored.copy()
    assert world.evaluate(**two) == first == job.finished(world.config(**two), world.storage)
    assert judge.scored == scored
    # A further set, without a flag: those that are judged stay as they are.
    further = two | {"sets": two["sets"] | {"again": two["sets"]["other"] | {"models": {"one": "run1"}}}}
    result = world.evaluate(**further)
    assert set(judge.scored - scored) <= {"model one test"}, "judged already, by another name"
    assert {name: result["sets"][name] for name in two["sets"]} == first["sets"]
    assert list(result["sets"]) == ["areas", "other", "again"]


def test_a_set_without_a_winner_does_not_keep_the_others_from_theirs(
    world: World, judge: type[InProcess], two: dict[str, Any]
) -> None:
    world.trial("t5", "failed", model=None, error="out of memory")
    for name in ("t1", "t2", "t3"):
        (world.search / "trials").delete(name)
    world.close_search("t5")
    with pytest.raises(RunError, match=r"none of 1 trials has a model.*t5: out of memory"):
        world.evaluate(**two)
    assert statuses(world) == {"judged": "failed", "judged.areas": "failed", "judged.other": "succeeded"}


def test_a_killed_evaluation_repeats_no_judgement(world: World, judge: type[InProcess], two: dict[str, Any]) -> None:
    judge.die_after = 4
    with pytest.raises(KeyboardInterrupt):
        world.evaluate(**two)
    judge.die_after = float("inf")
    world.evaluate(**two)
    assert max(judge.scored.values()) == 1


def test_one_set_is_promoted_not_all_at_once(world: World, judge: type[InProcess], two: dict[str, Any]) -> None:
    world.evaluate(**two)
    with pytest.raises(
        ConfigError, match=r"several sets, each with a chosen model: name judged\.areas or judged\.other"
    ):
        world.promote("judged", "best")
    world.promote("judged.other", "best")
    assert (world.storage / "best" / "model").exists("config.json")


@pytest.mark.usefixtures("ray_session")
def test_all_sets_share_their_scoring_processes(
    world: World, two: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    start = Scorers.start

    def counted(self: Scorers, suite: Any) -> None:
        before = list(self.actors)
        start(self, suite)
        started.extend(str(actor) for actor in self.actors if actor not in before)

    monkeypatch.setattr(Scorers, "start", counted)
    world.evaluate(**two)
    assert len(started) == 1
