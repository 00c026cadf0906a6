"""Searches on a local Ray: what fails is told apart, what is stopped gives all back, populations really take over."""

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import ray

from jobs.runtime.options import RunOptions
from jobs.runtime.search.schedulers import NO_CONTROLLER, make_scheduler
from jobs.tune import result_line, tune
from llmcore.config.tune import TuneConfig
from llmcore.errors import TrialError
from llmcore.evaluation.compared import Compared
from llmcore.storage import Folder
from llmcore.train.kept import complete_names
from tests.drivers import processes_of
from tests.faults import sessions
from tests.searches import FAULTY, assert_all_is_free_within, search_config

if TYPE_CHECKING:
    from cluster.connect import Session

RATE = "train.optimizer.learning_rate"


def _run(root: Path, session: "Session", **settings: Any) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The result of a search, and the records of its trials."""
    config = TuneConfig.model_validate(search_config(root, session.address, **settings))
    storage = Folder(str(root / "runs"))
    result = tune(config, storage, RunOptions())
    print(result_line(result, storage))
    trials = storage / config.name / "trials"
    return result, {name: trials.find_json(f"{name}/trial.json") or {} for name in trials.names()}


@pytest.mark.timeout(400)
def test_each_failure_has_its_cause_and_the_search_succeeds(ray_session: "Session", tmp_path: Path) -> None:
    workers = {"num_workers": 2, "cpus_per_worker": 0.25, "threads_per_worker": 1, "max_failures": 0, "hang_s": 20}
    base: dict[str, Any] = search_config(tmp_path, ray_session.address)["finetune"]
    task = {"kind": FAULTY, "max_tokens": 16, "options": {"fault": "none"}}
    faults = ["none", "memory", "nan", "raise", "hang"]
    result, records = _run(
        tmp_path,
        ray_session,
        finetune=base | {"task": task, "workers": workers},
        space={"task.options.fault": {"grid": faults}},
        searcher="grid",
        scheduler="median",
    )
    causes = {record["config"]["task.options.fault"]: record["cause"] for record in records.values()}
    told = {"none": None, "memory": "out_of_memory", "nan": "non_finite", "raise": "error", "hang": "hang"}
    assert causes == told, records
    errors = {record["cause"]: record["error"] for record in records.values()}
    assert "this batch is cursed" in errors["error"] and "time.sleep" not in errors["error"]
    assert "searches.py" in errors["hang"]
    assert (result["num_trials"], result["statuses"]) == (5, {"finished": 1, "failed": 4})
    assert result["causes"] == {"out_of_memory": 1, "non_finite": 1, "error": 1, "hang": 1}
    assert_all_is_free_within(10)


@pytest.mark.timeout(400)
def test_a_population_takes_over_the_better_ones_weights(ray_session: "Session", tmp_path: Path) -> None:
    base: dict[str, Any] = search_config(tmp_path, ray_session.address)["finetune"]
    task = {"kind": FAULTY, "max_tokens": 16, "validation_metric": "loss", "options": {"fault": "slow"}}
    train = base["train"] | {"num_steps": 100, "validate_every": 10, "checkpoint_every": 10}
    result, records = _run(
        tmp_path,
        ray_session,
        finetune=base | {"task": task, "train": train},
        space={RATE: {"log_uniform": [1e-9, 1e-1]}},
        first_points=[{RATE: 1e-2}, {RATE: 1e-9}],
        num_trials=2,
        scheduler="pbt",
        pbt={"quantile": 0.5, "resample_probability": 0.0},
    )
    assert result["num_exploited"] >= 1
    learner, idler = records["trial-000"], records["trial-001"]
    life = idler["lives"][1]
    assert life["donor"] == f"{tmp_path}/runs/search/trials/trial-000"
    assert life["values"][RATE] == pytest.approx(1e-2 * 1.2) or life["values"][RATE] == pytest.approx(1e-2 * 0.8)

    folder = Folder(f"{tmp_path}/runs/search/trials/trial-001/lives/02")
    assert sessions(folder, 1) == [life["step"]] and life["step"] > 0
    before = [row["validation_loss"] for row in learner["reports"] if row["step"] == life["step"]]
    after = [row["validation_loss"] for row in idler["reports"] if row["step"] > life["step"]]
    alone = [row["validation_loss"] for row in idler["reports"] if row["step"] == 10]
    assert alone[0] > before[0] + 0.05, "by itself it has learnt nothing"
    assert after[0] < alone[0] - 0.05, "with the weights of the other it goes on from there"
    assert_all_is_free_within(10)


@pytest.mark.timeout(400)
def test_optuna_begins_with_what_is_given_and_the_best_is_trained_again(ray_session: "Session", tmp_path: Path) -> None:
    space = {
        RATE: {"log_uniform": [1e-4, 1e-1]},
        "method.name": {"choice": ["full", "lora"]},
        "method.rank": {"log_integer": [2, 8], "when": {"method.name": ["lora"]}},
    }
    result, records = _run(
        tmp_path,
        ray_session,
        space=space,
        searcher="optuna",
        startup_trials=1,
        objectives=["quality", "device_seconds"],
        first_points=["config", {"method.name": "lora", "method.rank": 3}],
        num_trials=3,
        scheduler="fifo",
        final_seeds=[5],
    )
    assert records["trial-000"]["config"] == {RATE: 1e-2, "method.name": "full"}
    assert records["trial-001"]["config"] == {"method.name": "lora", "method.rank": 3} | {
        RATE: records["trial-001"]["config"][RATE]
    }
    searched = {name: record for name, record in records.items() if name.startswith("trial")}
    finals = {name: record for name, record in records.items() if name.startswith("final")}
    assert len(searched) == 3 and set(finals) == {"final-seed-5"}
    best = max(searched.values(), key=lambda record: (record["best_value"], -int(record["id"][-1])))
    assert finals["final-seed-5"]["config"] == best["config"] | {"train.seed": 5}
    assert finals["final-seed-5"]["seed"] == 5
    assert {record["status"] for record in finals.values()} == {"finished"}
    assert result["front"] and set(result["front"]) <= set(records)
    assert all(record["device_seconds"] > 1 for record in records.values())

    next_one = {"name": "next", "space": space, "first_from": ["search"], "num_trials": 1}
    spent = search_config(tmp_path, ray_session.address, **next_one, budget={"hours": 1e-6})
    storage = Folder(str(tmp_path / "runs"))
    with pytest.raises(TrialError, match=r"no trial left a model: budget\.hours=1e-06 is spent"):
        tune(TuneConfig.model_validate(spent), storage, RunOptions())
    assert not (storage / "next" / "trials").names(), "nothing begins when nothing is left to spend"
    _, records = _run(tmp_path, ray_session, **next_one, budget={"hours": 1})
    assert records["trial-000"]["config"] == best["config"] and records["trial-000"]["status"] == "finished"
    assert_all_is_free_within(10)


class _Trial:
    """As schedulers know one."""

    def __init__(self, name: str) -> None:
        self.trial_id, self.config, self.status = name, dict[str, Any](), "RUNNING"


@pytest.mark.parametrize(
    ("scheduler", "settings"),
    [("asha", {"asha": {"reduction_factor": 2}}), ("median", {"median": {"min_trials": 2}}), ("fifo", {})],
)
def test_what_falls_behind_is_stopped(tmp_path: Path, scheduler: str, settings: dict[str, Any]) -> None:
    config = TuneConfig.model_validate(
        search_config(tmp_path, "local", scheduler=scheduler, space={RATE: {"uniform": [0, 1]}}, **settings)
    )
    made = make_scheduler(config, Compared("accuracy", higher_is_better=True), num_reports=4)
    decisions = []
    for name, value in (("a", 0.8), ("b", 0.7), ("c", 0.9), ("d", 0.1)):
        trial = _Trial(name)
        made.on_trial_add(NO_CONTROLLER, trial)
        for report in (1, 2):
            result = {"report": report, "validation_accuracy": value}
            decisions.append(made.on_trial_result(NO_CONTROLLER, trial, result))
    assert decisions[-1] == ("CONTINUE" if scheduler == "fifo" else "STOP"), decisions
    assert decisions[:2] == ["CONTINUE", "CONTINUE"], "the first one is behind nobody"


def test_a_population_is_told_of_the_past_and_nobody_is_replaced_for_it(tmp_path: Path) -> None:
    """As when a killed search goes on: its trials run again, and have reported before."""
    config = TuneConfig.model_validate(
        search_config(tmp_path, "local", scheduler="pbt", space={RATE: {"log_uniform": [1e-4, 1e-1]}}, num_trials=4)
    )
    made = make_scheduler(config, Compared("loss", higher_is_better=False), num_reports=3)
    trials = [_Trial(name) for name in "abcd"]
    made._trial_state = {trial: type("State", (), {"last_perturbation_time": 0})() for trial in trials}
    for place, trial in enumerate(trials):
        told = {"report": 2, "validation_loss": 1.0 - 0.1 * place}
        assert made.on_trial_result(NO_CONTROLLER, trial, told) == "CONTINUE"
    assert [state.last_score for state in made._trial_state.values()] == pytest.approx([-1.0, -0.9, -0.8, -0.7])
    assert {state.last_perturbation_time for state in made._trial_state.values()} == {2}


@pytest.mark.timeout(400)
def test_a_killed_worker_costs_no_trial_and_one_that_takes_too_long_leaves(
    ray_session: "Session", tmp_path: Path
) -> None:
    base: dict[str, Any] = search_config(tmp_path, ray_session.address)["finetune"]
    task = {"kind": FAULTY, "max_tokens": 16, "options": {"fault": "slow"}}
    train = base["train"] | {"num_steps": 80, "validate_every": 20, "checkpoint_every": 5}
    slow = {"finetune": base | {"task": task, "train": train}, "space": {"train.seed": {"choice": [1]}}}
    trial = Folder(f"{tmp_path}/runs/search/trials/trial-000")
    killed: list[int] = []

    def kill() -> None:
        """One of the two workers, when there is a checkpoint to go on from."""
        while not complete_names(trial / "checkpoints"):
            time.sleep(0.05)
        here = ray._private.worker._global_node.get_session_dir_path()
        workers = [one for one in processes_of(here) if "RayTrainWorker" in " ".join(one.cmdline())]
        workers[0].kill()
        killed.append(workers[0].pid)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    result, records = _run(tmp_path, ray_session, num_trials=1, scheduler="fifo", **slow)
    assert killed and result["statuses"] == {"finished": 1}
    record = records["trial-000"]
    assert (record["num_steps"], record["cause"]) == (80, None)
    assert [report["step"] for report in record["reports"]] == [20, 40, 60, 80]
    assert len(sessions(trial, 1)) == 2 and sessions(trial, 1)[1] >= 5

    late = train | {"num_steps": 5000, "validate_every": 10}
    with pytest.raises(TrialError, match=r"trial-000: timeout: it took longer than trial_hours=0.004"):
        _run(
            tmp_path,
            ray_session,
            **slow | {"finetune": base | {"task": task, "train": late}},
            name="late",
            num_trials=1,
            trial_hours=0.004,
        )
    record = (Folder(f"{tmp_path}/runs/late/trials") / "trial-000").find_json("trial.json") or {}
    assert record["cause"] == "timeout" and complete_names(Folder(f"{tmp_path}/runs/late/trials/trial-000/checkpoints"))
    assert_all_is_free_within(10)
