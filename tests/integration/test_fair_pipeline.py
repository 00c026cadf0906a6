"""A pipeline whose search has fairness as its second objective, and whose last stage is shut for an unfair winner."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llmcore.records import newest_result
from llmcore.storage import Folder, read_manifest
from tests.bases import WORDS
from tests.drivers import run_jobs
from tests.searches import search_config
from tests.tiny import write_config

if TYPE_CHECKING:
    from cluster.connect import Session

FAIRNESS = {"words": {"pairs": [[*WORDS][:2], [*WORDS][2:4]]}}
"""Swapped, `blue` is `red`, and `cat` is `dog`: the first half of the words is one class, so that little moves."""


def _config(root: Path, session: "Session") -> dict[str, Any]:
    """Two trials, one with counterfactual copies; judged; published."""
    search = search_config(
        root,
        session.address,
        space={"fairness.augment": {"grid": [0.0, 1.0]}},
        searcher="grid",
        scheduler="fifo",
        objectives=["quality", "counterfactual_gap"],
    )
    search["finetune"]["fairness"] = FAIRNESS
    common = {key: search.pop(key) for key in ("storage", "cluster")}
    del search["name"]
    judge = {
        "searches": ["${search}"],
        "baselines": ["majority"],
        "fairness": {"counterfactuals": FAIRNESS["words"]},
        "num_resamples": 100,
    }
    stages = {
        "search": {"job": "tune", **search},
        "judge": {"job": "evaluate", **judge},
        "best": {"job": "promote", "evaluation": "${judge}", "max_counterfactual_gap": 0.0},
    }
    return {"name": "fair", **common, "stages": stages}


@pytest.mark.timeout(600)
def test_the_winner_gets_its_name_only_if_it_is_fair_enough(ray_session: "Session", tmp_path: Path) -> None:
    config, storage = write_config(tmp_path / "fair.yaml", _config(tmp_path, ray_session)), Folder(f"{tmp_path}/runs")
    shut = run_jobs("pipeline", str(config), cwd=tmp_path, **ray_session.for_stages)
    assert shut.code == 3, shut.out + shut.err
    assert "is not published as fair.best: its counterfactual gap is 0." in shut.err
    assert "over max_counterfactual_gap=0" in shut.err and not (storage / "fair.best").exists("run.json")

    searched = newest_result(storage / "fair.search")
    assert searched is not None and searched["front"]
    for number, augment in enumerate((0.0, 1.0)):
        record = (storage / f"fair.search/trials/trial-00{number}").find_json("trial.json") or {}
        assert record["point"] == {"fairness.augment": augment} and 0 < record["counterfactual_gap"] < 1
        assert record["reports"][-1]["validation_counterfactual_gap"] > 0

    opened = run_jobs(
        "pipeline",
        str(config),
        "stages.best.max_counterfactual_gap=1.0",
        cwd=tmp_path,
        **ray_session.for_stages,
    )
    assert opened.code == 0, opened.out + opened.err
    published, judged = read_manifest(storage / "fair.best/model"), newest_result(storage / "fair.judge")
    assert published is not None and judged is not None
    assert published.sha256 == judged["chosen_model"]["sha256"]
    again = run_jobs(
        "pipeline",
        str(config),
        "stages.best.max_counterfactual_gap=1.0",
        cwd=tmp_path,
        **ray_session.for_stages,
    )
    assert again.code == 0 and "All stages of fair are done already." in again.out
