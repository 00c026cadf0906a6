"""Labels that hang on whom a text is about: found, and undone by each of what a fine-tuning can do about it."""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from llmcore.records import read_metrics
from llmcore.storage import Folder, read_manifest
from llmcore.tasks.columns import TEXT_AND_LABEL
from llmcore.tasks.evaluation_set import write_evaluation_set
from tests.bases import finetuned, write_base
from tests.ranks import run_ranks

SIDES = ("cat", "dog")
WORDS = {"pairs": [list(SIDES)]}
FAIRNESS: dict[str, dict[str, Any] | None] = {
    "plain": {},
    "augmented": {"augment": 1.0},
    "consistent": {"consistency": 1.0},
    "reweighted": {"balance": "reweight"},
    "sampled": {"balance": "sample", "balance_by": "side"},
}
NUM_STEPS = 100


def _rows(split: str, num_rows: int, follows: float) -> pa.Table:
    """Three of four labels say what the second word says; who stands first goes with the label in a share of rows."""
    draw = random.Random(split)
    labels = [number % 2 for number in range(num_rows)]
    words = [("tree", "house")[label if draw.random() < 0.75 else 1 - label] for label in labels]
    sides = [SIDES[label if draw.random() < follows else 1 - label] for label in labels]
    return pa.table(
        {
            "id": [f"{split}{number}" for number in range(num_rows)],
            "text": [f"{side} {word}" for side, word in zip(sides, words, strict=True)],
            "label": pa.array(labels, pa.int32()),
            "group": [f"{split}{number}" for number in range(num_rows)],
            "side": sides,
        }
    )


def _all(root: str, labelled: str) -> dict[str, dict[str, Any]]:
    """The outcome of each fine-tuning. A collective."""
    return {
        name: finetuned(
            Path(root, "base"),
            labelled,
            f"{root}/{name}",
            {},
            {"words": WORDS, **given} if given is not None else None,
            num_steps=NUM_STEPS,
            global_batch_size=16,
            micro_batch_size=8,
            zero_stage=2,
            validate_every=NUM_STEPS,
            optimizer={"learning_rate": 5e-3},
        )
        for name, given in FAIRNESS.items()
    }


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the last validation of each says; and its folder."""
    root = tmp_path_factory.mktemp("fairness")
    write_base(root / "base", "bert")
    tables = {"train": [_rows("train", 320, 0.9)], "validation": [_rows("validation", 60, 0.5)]}
    columns = TEXT_AND_LABEL.with_metadata(("side",))
    labelled = write_evaluation_set(
        Folder(str(root / "runs")), "planted", ["no", "yes"], tables, columns=columns, allow_duplicates=True
    )  # type: ignore[arg-type]
    run_ranks(2, _all, str(root), labelled.folder.url, out=root / "out")
    last = {}
    for name in FAIRNESS:
        run = Folder(str(root / name))
        rows = [row for row in read_metrics(run) if "validation_counterfactual_gap" in row]
        last[name] = rows[-1] | {"run": run}
        print(name, {key: value for key, value in rows[-1].items() if key.startswith("validation_")})
    return last


def test_the_planted_imbalance_is_found(told: dict[str, dict[str, Any]]) -> None:
    assert told["plain"]["validation_counterfactual_gap"] > 0.2
    assert 0 < told["plain"]["validation_counterfactual_flips"] <= 1


@pytest.mark.parametrize("name", [name for name in FAIRNESS if name != "plain"])
def test_each_mitigation_cuts_it_by_half_at_least(told: dict[str, dict[str, Any]], name: str) -> None:
    assert told[name]["validation_counterfactual_gap"] < 0.5 * told["plain"]["validation_counterfactual_gap"]
    assert told[name]["validation_accuracy"] > 0.7, "the second word is still told"


def test_the_model_card_tells_what_was_measured_and_done(told: dict[str, dict[str, Any]]) -> None:
    exports = told["augmented"]["run"] / "exports"
    newest = exports / exports.names()[-1]
    card = newest.read_text("README.md")
    gap = told["augmented"]["validation_counterfactual_gap"]
    assert f"| counterfactual gap | {gap:.4f} |" in card.partition("## Bias")[2]
    assert "of 100% of the train rows that name somebody a counterfactual copy was learnt" in card
    manifest = read_manifest(newest)
    assert manifest is not None and manifest.about["fairness"]["augment"] == 1.0
