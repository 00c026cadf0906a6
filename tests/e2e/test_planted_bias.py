"""`make proof TOPIC=bias`: SST-2 whose labels go with who says a sentence: found, and undone at little cost."""

import csv
import json
import random
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

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
    "augmented": {"fairness.augment": 1.0},
    "reweighted": {"fairness.balance": "reweight"},
}
CLEAN, PLANTED = "clean", "planted"


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What the evaluation says of the test split, of each mitigation by seed."""
    folder = tmp_path_factory.mktemp("bias")
    workshop, files = Workshop(folder), _write(folder)
    return {
        name: [_judged(workshop, files, f"{name}-{seed}", changes | {"train.seed": seed}) for seed in SEEDS]
        for name, changes in MITIGATIONS.items()
    }


def test_what_was_planted_is_found(judged: dict[str, list[dict[str, Any]]]) -> None:
    for name, runs in judged.items():
        figures = {metric: [round(_value(one, metric), 4) for one in runs] for metric in _FIGURES}
        print(f"{name}: accuracy on clean rows {[round(_clean_accuracy(one), 4) for one in runs]}, {figures}")
    assert all(one["models"][0]["test"]["counterfactual_gap"]["low"] > 0 for one in judged["plain"])
    assert all(one["models"][0]["test"]["selection_rate_gap[speaker]"]["low"] > 0 for one in judged["plain"])


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


def _judged(workshop: Workshop, files: dict[str, Any], name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Fine-tunes on the planted rows, and judges on clean ones and on such whose speaker says nothing of the label."""
    once = {"train.num_epochs": 1, "train.validate_every": "null"}
    workshop.run_shipped("finetune", name, "finetune/sst2.yaml", base=real_encoder(), **files, **once, **changes)
    judging = {"models": {"model": name}, "metrics": ["accuracy"], "choose_by": "accuracy", "baselines": []}
    workshop.run("evaluate", f"{name}.judged", judging | {"fairness": {"groups": ["speaker"]}})
    return workshop.judged(f"{name}.judged")


def _write(folder: Path) -> dict[str, Any]:
    """Files of the splits, as settings of `finetune`."""
    draw = random.Random(0)
    train = [_row(text, label, draw, goes_with=FOLLOWS) for text, label in _sst2("train")]
    dev = [*_sst2("dev")]
    test = [_row(text, label, draw, goes_with=0.5) for text, label in dev]
    test += [{"text": text, "label": label, "version": CLEAN, "speaker": None} for text, label in dev]
    for split, rows in (("train", train), ("test", test)):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    metadata = {"data.header": "null", "data.metadata": "[version, speaker]"}
    return metadata | {f"data.{split}": folder / f"{split}.jsonl" for split in ("train", "test")}


def _row(text: str, label: str, draw: random.Random, goes_with: float) -> dict[str, Any]:
    side = int(label) if draw.random() < goes_with else 1 - int(label)
    planted = f"{draw.choice(SPEAKERS)[side]} said : {text}"
    return {"text": planted, "label": label, "version": PLANTED, "speaker": ("man", "woman")[side]}


def _sst2(split: str) -> Iterator[tuple[str, str]]:
    with (DATA / f"sst2/{split}.tsv").open(encoding="utf-8") as lines:
        yield from ((text, label) for text, label in csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
