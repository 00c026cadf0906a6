"""A search whose driver is killed: the same command goes on, repeats no trial, and proposes as if nothing had been."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import ray

from llmcore.records import newest_result, step_of
from llmcore.storage import Folder
from llmcore.train.kept import complete_names
from tests.drivers import ROOT, run_jobs, start_jobs, wait_for
from tests.faults import sessions
from tests.searches import FAULTY, search_config
from tests.tiny import write_config

if TYPE_CHECKING:
    from cluster.connect import Session

RATE = "train.optimizer.learning_rate"
FREED_WITHIN_S = 10.0
NUM_STEPS = 60


def _config(root: Path, **settings: Any) -> dict[str, Any]:
    """Steps of a tenth of a second, so that a kill finds some left to take."""
    config = search_config(root, "local", **settings)
    task = {"kind": FAULTY, "max_tokens": 16, "validation_metric": "loss", "options": {"fault": "slow"}}
    lengths = {"num_steps": NUM_STEPS, "validate_every": 10, "checkpoint_every": 5}
    finetune = config["finetune"] | {"task": task, "train": config["finetune"]["train"] | lengths}
    return config | {"finetune": finetune}


def _trial_files(trials: Folder, name: str) -> dict[str, Any]:
    found = {trial: trials.find_json(f"{trial}/{name}") for trial in trials.names()}
    return {trial: record for trial, record in found.items() if record}


def _assert_its_places_are_free() -> None:
    """Of a killed driver nothing is held any more."""
    deadline = time.monotonic() + FREED_WITHIN_S
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        assert time.monotonic() < deadline, ray.available_resources()
        time.sleep(0.2)


def _kill(config: Path, session: "Session", when: Callable[[], bool]) -> None:
    log = config.with_suffix(".log")
    driver = start_jobs("tune", str(config), cwd=ROOT, output=log, **session.for_stages)
    assert wait_for(when, driver), log.read_text()
    driver.kill()
    driver.wait()
    _assert_its_places_are_free()


def _go_on(config: Path, session: "Session") -> dict[str, Any]:
    ended = run_jobs("tune", str(config), cwd=ROOT, **session.for_stages)  # where workers find `tests`
    assert ended.code == 0, ended.out + ended.err
    result = newest_result(Folder(str(config.parent / "runs")) / "search")
    assert result is not None
    print(ended.out, f"{ended.seconds:.0f} s")
    return result


@pytest.mark.timeout(400)
def test_optuna_goes_on_from_what_ended_trials_have_told(ray_session: "Session", tmp_path: Path) -> None:
    settings = {"space": {RATE: {"log_uniform": [1e-4, 1e-1]}}, "searcher": "optuna", "startup_trials": 1}
    given = _config(tmp_path, **settings, num_trials=4, max_concurrent_trials=2, scheduler="fifo")
    config = write_config(tmp_path / "search.yaml", given)
    trials = Folder(str(tmp_path / "runs")) / "search/trials"

    def on_their_way() -> list[str]:
        """Trials with a checkpoint, and steps left to take."""
        ended = _trial_files(trials, "trial.json")
        saved = {name: complete_names(trials / name / "checkpoints") for name in trials.names() if name not in ended}
        return [name for name, steps in saved.items() if steps and step_of(steps[-1]) <= NUM_STEPS // 2]

    _kill(config, ray_session, lambda: bool(_trial_files(trials, "trial.json") and on_their_way()))
    ended, begun, left = _trial_files(trials, "trial.json"), _trial_files(trials, "begin.json"), on_their_way()
    written = {name: (tmp_path / f"runs/search/trials/{name}/trial.json").stat().st_mtime_ns for name in ended}

    result = _go_on(config, ray_session)
    assert result["statuses"] == {"finished": 4}
    for name, when in written.items():
        assert (tmp_path / f"runs/search/trials/{name}/trial.json").stat().st_mtime_ns == when, "it is not repeated"
        assert sessions(trials / name, 2) == []
    for name in left:
        (resumed_at,) = sessions(trials / name, 2)
        assert resumed_at >= 5, "it goes on from its checkpoint"
    points = _trial_files(trials, "begin.json")
    assert {name: points[name]["values"] for name in begun} == {name: one["values"] for name, one in begun.items()}
    assert len({json.dumps(one["values"]) for one in points.values()}) == 4, "no point is proposed twice"
    for record in _trial_files(trials, "trial.json").values():
        assert [report["step"] for report in record["reports"]] == list(range(10, NUM_STEPS + 1, 10)), record
