"""A search whose driver is killed: the same command goes on, repeats no trial, and proposes as if nothing had been."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobs.runtime.search.lives import Life, newest_life
from llmcore.records import newest_result, step_of
from llmcore.storage import Folder
from llmcore.train.kept import complete_names
from tests.drivers import ROOT, run_jobs, start_jobs, wait_for
from tests.faults import sessions
from tests.searches import FAULTY, assert_all_is_free_within, search_config
from tests.tiny import write_config

if TYPE_CHECKING:
    from cluster.connect import Session

RATE = "train.optimizer.learning_rate"
NUM_STEPS, NUM_LONG = 60, 180


def _config(root: Path, num_steps: int = NUM_STEPS, **settings: Any) -> dict[str, Any]:
    """Steps of a tenth of a second, so that a kill finds some left to take."""
    config = search_config(root, "local", **settings)
    task = {"kind": FAULTY, "max_tokens": 16, "validation_metric": "loss", "options": {"fault": "slow"}}
    lengths = {"num_steps": num_steps, "validate_every": 10, "checkpoint_every": 5}
    finetune = config["finetune"] | {"task": task, "train": config["finetune"]["train"] | lengths}
    return config | {"finetune": finetune}


def _trial_files(trials: Folder, name: str) -> dict[str, Any]:
    found = {trial: trials.find_json(f"{trial}/{name}") for trial in trials.names()}
    return {trial: record for trial, record in found.items() if record}


def _kill(config: Path, session: "Session", when: Callable[[], bool]) -> None:
    log = config.with_suffix(".log")
    driver = start_jobs("tune", str(config), cwd=ROOT, output=log, **session.for_stages)
    assert wait_for(when, driver), log.read_text()
    driver.kill()
    driver.wait()
    assert_all_is_free_within(10)


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


@pytest.mark.timeout(400)
def test_a_population_goes_on_with_the_weights_that_were_taken_over(ray_session: "Session", tmp_path: Path) -> None:
    given = _config(
        tmp_path,
        num_steps=NUM_LONG,
        space={RATE: {"log_uniform": [1e-9, 1e-1]}},
        first_points=[{RATE: 1e-2}, {RATE: 1e-9}],
        num_trials=2,
        scheduler="pbt",
        pbt={"quantile": 0.5, "resample_probability": 0.0, "every_reports": 4},
    )
    config = write_config(tmp_path / "search.yaml", given)
    trials = Folder(str(tmp_path / "runs")) / "search/trials"

    def takes_over() -> Life:
        return newest_life(trials / "trial-001")

    def trains_on() -> bool:
        """It has taken steps with another one's weights, and has some left."""
        life = takes_over()
        steps = _steps(life.folder, 1)
        return life.record is not None and len(steps) > 5 and steps[-1] < NUM_LONG - 40

    _kill(config, ray_session, trains_on)
    life = takes_over()
    assert life.record is not None
    result = _go_on(config, ray_session)
    assert result["statuses"] == {"finished": 2} and result["num_exploited"] >= 1
    assert life.folder.read_json("life.json") == life.record
    assert sessions(life.folder, 2)[0] >= life.record["step"] > 0, "it goes on with what it had taken over"
    records = _trial_files(trials, "trial.json")
    assert life.record in records["trial-001"]["lives"]
    assert set(records) == {"trial-000", "trial-001"}
    for record in records.values():
        reported = [report["step"] for report in record["reports"]]
        assert sorted(set(reported)) == reported and reported[-1] == NUM_LONG, "each once, to the end"


def _steps(run: Folder, attempt: int) -> list[int]:
    """The steps that an attempt has told of."""
    parts = run / f"attempts/{attempt:02d}/metrics"
    lines = [json.loads(line) for name in parts.names() for line in parts.read_text(name).splitlines() if line]
    return [line["step"] for line in lines if "loss" in line]
