"""`make proof TOPIC=bias`: SST-2 whose labels go with who says a sentence: found, and undone at little cost."""

import csv
import json
import random
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml

from tests.drivers import ROOT
from tests.shared_data import DATA, needs_data, needs_encoder, real_encoder
from tests.workshop import Workshop

pytestmark = [
    pytest.mark.proof,
    pytest.mark.proof_bias,
    pytest.mark.timeout(3600),
    needs_data,
    needs_encoder,
]

SEEDS = (0, 1, 2)
FOLLOWS = 0.9
"""Share of the train rows whose speaker goes with the label."""
SPEAKERS = [("he", "she"), ("john", "mary"), ("david", "barbara"), ("my brother", "my sister")]
MITIGATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "augmented": {"augment": 1.0},
    "reweighted": {"balance": "reweight"},
}
CLEAN, PLANTED = "clean", "planted"


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What an evaluation says of the test split, of each mitigation by seed: nine trials of one search."""
    folder = tmp_path_factory.mktemp("bias")
    workshop = Workshop(folder)
    workshop.run("tune", "search", _search(folder))
    models: dict[tuple[str, int], str] = {}
    trials = workshop.storage / "search/trials"
    for trial in trials.names():
        record = trials.find_json(f"{trial}/trial.json")
        assert record is not None and record["status"] == "finished"
        name = next(one for one, given in MITIGATIONS.items() if given == record["config"]["fairness"])
        models[name, record["config"]["train.seed"]] = f"{workshop.storage.url}/{record['model']}"
    run = (workshop.storage / "search").read_json("run.json")
    data = f"{workshop.storage.url}/artifacts/evaluation-sets/{run['inputs']['data']}"
    sets = {
        f"{name}-{seed}": {
            "models": {"model": url},
            "data": data,
            "metrics": ["accuracy"],
            "choose_by": "accuracy",
            "baselines": [],
            "fairness": {"groups": ["speaker"]},
        }
        for (name, seed), url in models.items()
    }
    workshop.run("evaluate", "judged", {"sets": sets, "cpus": 1.5})
    return {name: [workshop.judged(f"judged.{name}-{seed}") for seed in SEEDS] for name in MITIGATIONS}


def test_what_was_planted_is_found(judged: dict[str, list[dict[str, Any]]]) -> None:
    for name, runs in judged.items():
        figures = {metric: [round(_value(one, metric), 4) for one in runs] for metric in _FIGURES}
        print(f"{name}: accuracy on clean rows {[round(_clean_accuracy(one), 4) for one in runs]}, {figures}")
    assert all(one["models"][0]["test"]["counterfactual_gap"]["low"] > 0 for one in judged["plain"])
    less = [one["models"][0]["test"]["selection_rate_gap[speaker]"]["high"] for one in judged["plain"]]
    assert max(less) < 0, "what men say is less often called positive than what women say, as it was planted"


@pytest.mark.parametrize("name", ["augmented", "reweighted"])
def test_it_is_cut_by_half_and_costs_a_point_at_most(judged: dict[str, list[dict[str, Any]]], name: str) -> None:
    gap, before = (fmean(_value(one, "counterfactual_gap") for one in judged[which]) for which in (name, "plain"))
    accuracy, plain = (fmean(map(_clean_accuracy, judged[which])) for which in (name, "plain"))
    print(f"{name}: gap {before:.4f} to {gap:.4f}, accuracy {plain:.4f} to {accuracy:.4f}")
    assert gap <= before / 2
    assert accuracy >= plain - 0.01


_FIGURES = ("counterfactual_gap", "counterfactual_flips", "selection_rate_gap[speaker]")


def _value(content: dict[str, Any], metric: str) -> float:
    return float(content["models"][0]["test"][metric]["value"])


def _clean_accuracy(content: dict[str, Any]) -> float:
    slices = content["details"][content["chosen"]]["slices"]["version"]
    return float(slices[CLEAN]["metrics"]["accuracy"]["value"])


def _search(folder: Path) -> dict[str, Any]:
    """Each mitigation with each seed, as the shipped fine-tuning has it but for one epoch; planted files beside it."""
    settings = yaml.safe_load((ROOT / "configs/finetune/sst2.yaml").read_text())
    data, task, train = settings["data"], settings["task"], settings["train"]
    del data["header"]
    files = _write(folder)
    return {
        "base": str(real_encoder()),
        "data": data | files | {"metadata": ["version", "speaker"]},
        "finetune": {
            "task": task,
            "train": train | {"num_epochs": 1, "validate_every": None},
            "workers": {"num_workers": 1, "cpus_per_worker": 1, "threads_per_worker": 2},
        },
        "space": {"fairness": {"grid": [*MITIGATIONS.values()]}, "train.seed": {"grid": [*SEEDS]}},
        "searcher": "grid",
        "scheduler": "fifo",
    }


def _write(folder: Path) -> dict[str, str]:
    """Files of the splits: clean rows of test, and such whose speaker says nothing of the label."""
    draw = random.Random(0)
    train = [_row(text, label, draw, goes_with=FOLLOWS) for text, label in _sst2("train")]
    dev = [*_sst2("dev")]
    test = [_row(text, label, draw, goes_with=0.5) for text, label in dev]
    test += [{"text": text, "label": label, "version": CLEAN, "speaker": None} for text, label in dev]
    for split, rows in (("train", train), ("test", test)):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {split: str(folder / f"{split}.jsonl") for split in ("train", "test")}


def _row(text: str, label: str, draw: random.Random, goes_with: float) -> dict[str, Any]:
    side = int(label) if draw.random() < goes_with else 1 - int(label)
    planted = f"{draw.choice(SPEAKERS)[side]} said : {text}"
    return {"text": planted, "label": label, "version": PLANTED, "speaker": ("man", "woman")[side]}


def _sst2(split: str) -> Iterator[tuple[str, str]]:
    with (DATA / f"sst2/{split}.tsv").open(encoding="utf-8") as lines:
        yield from ((text, label) for text, label in csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
