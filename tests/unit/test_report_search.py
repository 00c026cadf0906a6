"""What a search did is on the page: what its keys did, what quality cost, why trials failed; thousands of them too."""

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from llmcore.config.space import Range
from llmcore.config.tune import TuneConfig
from llmcore.report import gather, render
from llmcore.search.importance import importances
from llmcore.storage import Folder
from tests import pipeline_records as records

RATE, LAYERS = "train.optimizer.learning_rate", "method.frozen_layers"
NUM_TRIALS, WITHIN_S = 2000, 20.0


def _write_search(storage: Folder, num_trials: int) -> None:
    """A search in which the learning rate is what counts, over what a pipeline has left; each seventh trial failed."""
    config = TuneConfig.model_validate(
        {
            "name": f"{records.PIPELINE}.tune",
            "base": "b",
            "data": "p/areas",
            "finetune": {"train": {"num_epochs": 1}},
            "space": {RATE: {"log_uniform": [1e-5, 1e-2]}, LAYERS: {"integer": [0, 4]}},
        }
    )
    run = storage / config.name
    run.write_text("config.yaml", yaml.safe_dump(config.model_dump(mode="json")))
    (run / "trials").delete()
    generator = np.random.default_rng(0)
    names = [f"trial-{number:03d}" for number in range(num_trials)]
    for number, name in enumerate(names):
        rate, layers = float(10 ** generator.uniform(-5, -2)), int(generator.integers(0, 5))
        worth = 0.8 - 0.2 * (np.log10(rate) + 3) ** 2 + float(generator.normal(0, 0.005))
        failed = number % 7 == 6
        record: dict[str, Any] = {
            "id": name,
            "status": "failed" if failed else "finished",
            "config": {RATE: rate, LAYERS: layers},
            "reports": []
            if failed
            else [{"step": step, "validation_macro_f1": worth * step / 40} for step in (20, 40)],
            "best_value": None if failed else worth,
            "cause": "out_of_memory" if failed else None,
            "error": "rank 0: there is no more" if failed else None,
            "device_seconds": 60.0 + number,
            "num_steps": 40,
        }
        (run / "trials" / name).write_json("trial.json", record)
    run.write_json(
        "search.json", {"closed": True, "metric": "macro_f1", "front": names[:1], "ended_by": "budget.hours=2"}
    )


def test_of_a_loss_the_lower_ones_are_the_best() -> None:
    """The rate decides the good half, the number of layers the bad one."""
    space = {RATE: Range.model_validate({"uniform": [0, 1]}), LAYERS: Range.model_validate({"uniform": [0, 1]})}
    generator = np.random.default_rng(0)
    points = [{RATE: float(rate), LAYERS: float(layers)} for rate, layers in generator.random((80, 2))]
    worth = [(point, point[RATE] if point[RATE] < 0.5 else 0.5 + point[LAYERS]) for point in points]
    assert next(iter(importances(space, worth, higher_is_better=False))) == RATE
    assert next(iter(importances(space, worth, higher_is_better=True))) == LAYERS


def test_what_its_keys_did_is_on_the_page(tmp_path: Path) -> None:
    storage = Folder(str(tmp_path))
    records.write_pipeline(storage)
    _write_search(storage, 30)
    report = gather(storage, records.PIPELINE)
    assert not report.problems
    assert list(report.searches[0].importance) == [RATE, LAYERS] and report.searches[0].importance[RATE] > 0.7
    page = render(report)
    for name in ("pareto", "parallel", "importance", "trials"):
        assert f'id="{name}-' in page, name
    assert page.count("<b>out of memory</b>: rank 0: there is no more") == 4
    assert "The search was ended by its budget: budget.hours=2." in page
    assert not re.search(r"https?://", page)


def test_two_thousand_trials_are_on_a_page_in_seconds(tmp_path: Path) -> None:
    storage = Folder(str(tmp_path))
    records.write_pipeline(storage)
    _write_search(storage, NUM_TRIALS)
    began = time.process_time()
    page = render(gather(storage, records.PIPELINE))
    took = time.process_time() - began
    print(f"{NUM_TRIALS} trials: {took:.1f} CPU-seconds, {len(page) / 1e6:.1f} MB")
    assert took < WITHIN_S
    assert f"trial-{NUM_TRIALS - 1}" in page
