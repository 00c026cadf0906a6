"""Search spaces that cannot be searched are refused, each with what is wrong and the fix."""

from typing import Any

import pytest
from pydantic import ValidationError

from jobs.runtime.budget import spent
from jobs.runtime.search.plan import SearchPlan, config_point, final_ids, proposals_of
from llmcore.config.budget import BudgetSettings
from llmcore.config.space import Range, in_order
from llmcore.config.tune import TuneConfig
from llmcore.errors import ConfigError
from llmcore.storage import Folder

RATE = "train.optimizer.learning_rate"
TRAIN = {"num_steps": 40, "validate_every": 10, "checkpoint_every": 5, "optimizer": {"learning_rate": 1e-3}}


def _config(**settings: Any) -> TuneConfig:
    common = {"name": "s", "base": "b", "data": "p/d", "finetune": {"train": TRAIN}}
    return TuneConfig.model_validate(common | {"space": {RATE: {"log_uniform": [1e-4, 1e-2]}}} | settings)


LORA = {
    "method.name": {"choice": ["full", "lora"]},
    "method.rank": {"integer": [2, 8], "when": {"method.name": ["lora"]}},
}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"space": {RATE: {}}}, "give exactly one of choice, grid, uniform"),
        ({"space": {RATE: {"uniform": [1, 0]}}}, r"the interval \[1.0, 0.0\] is empty"),
        ({"space": {RATE: {"log_integer": [0, 4]}}}, "log_integer needs positive numbers"),
        ({"space": {RATE: {"choice": [1, 2, 1]}}}, "choice has 1 twice"),
        ({"space": {"a": {"choice": [1], "when": {"b": [1]}}}}, "when names 'b', which is not searched"),
        ({"space": LORA | {"x": {"choice": [1], "when": {"method.name": ["lor"]}}}}, "'lor' never is"),
        (
            {"space": {"a": {"choice": [1], "when": {"b": [1]}}, "b": {"choice": [1], "when": {"a": [1]}}}},
            "a, b are searched when each other is",
        ),
        (
            {"searcher": "grid"},
            "searcher=grid takes each value in turn, and space.train.optimizer.learning_rate is log",
        ),
        ({"searcher": "optuna", "space": {RATE: {"grid": [1, 2]}}}, "is a grid, which searcher=optuna does not follow"),
        ({"first_points": [{RATE: 1.0}]}, r"first_points.0: .*=1.0 is outside of its range, log_uniform \[0.0001"),
        ({"first_points": ["config", {"train.seed": 1}]}, "first_points.1: train.seed is not searched"),
        ({"first_points": ["config", "config"]}, "`config` twice"),
        ({"objectives": ["device_seconds"]}, "give \\[quality\\], \\[quality, device_seconds\\] or"),
        ({"objectives": ["quality", "device_seconds"]}, "scheduler=asha stops trials by their quality alone"),
        ({"budget": {"money": 3}}, "money=3 without a price"),
        ({"scheduler": "pbt", "space": LORA}, "method.name cannot change there"),
        (
            {"scheduler": "pbt", "space": {"train.optimizer.kind": {"choice": ["adamw", "muon"]}}},
            "kind cannot change there",
        ),
        ({"num_trials": 1, "first_points": ["config", {RATE: 1e-3}]}, "num_trials=1 has no room for 2 first points"),
        ({"scheduler": "pbt", "searcher": "optuna"}, "proposes points by itself"),
        (
            {"scheduler": "pbt", "finetune": {"train": TRAIN | {"checkpoint_every": 7}}},
            "checkpoint_every=7 there is none",
        ),
        (
            {"finetune": {"train": TRAIN, "task": {"validation_metric": "test_accuracy"}}},
            "the test split chooses nothing",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        _config(**settings)


def test_keys_stand_after_those_that_they_wait_for() -> None:
    space = {"a": {"choice": [1], "when": {"z": [1]}}, "z": {"choice": [1]}, "m": {"choice": [1], "when": {"a": [1]}}}
    assert in_order({key: Range.model_validate(range_) for key, range_ in space.items()}) == ["z", "a", "m"]


def test_the_configuration_itself_is_a_point() -> None:
    assert config_point(_config(space=LORA | {RATE: {"log_uniform": [1e-4, 1e-2]}})) == {
        "method.name": "full",
        RATE: 1e-3,
    }
    with pytest.raises(ConfigError, match=r"finetune.train.optimizer.learning_rate=0.001 is outside of its range"):
        config_point(_config(space={RATE: {"log_uniform": [1e-2, 1e-1]}}))
    with pytest.raises(ConfigError, match=r"space\.train\.rate is no key of `finetune`"):
        config_point(_config(space={"train.rate": {"choice": [1]}}))


def test_a_trial_that_cannot_be_is_refused_with_its_point() -> None:
    plan = SearchPlan(_config(space={"train.zero_stage": {"choice": [1, 7]}}), {}, verbose=False)
    with pytest.raises(ConfigError, match=r"trial-003 would have {'train.zero_stage': 7}"):
        plan.finetuning("trial-003", {"train.zero_stage": 7})
    assert plan.finetuning("trial-004", {"train.zero_stage": 1}).train.zero_stage == 1


def test_points_of_earlier_searches_are_tried_where_they_fit(tmp_path: Any) -> None:
    storage = Folder(str(tmp_path))
    for name, point in (("first", {RATE: 2e-3}), ("other", {"train.seed": 3})):
        run = storage / name
        run.write_json("run.json", {"kind": "tune"})
        run.write_text("config.yaml", _config().model_dump_json())
        run.write_json("search.json", {"closed": True, "trials": ["trial-000"], "best": "trial-000"})
        (run / "trials" / "trial-000").write_json("trial.json", {"config": {}, "point": point})
    proposals, said = proposals_of(_config(first_points=["config"], first_from=["first", "other"]), storage, True)
    assert proposals.first == ({RATE: 1e-3}, {RATE: 2e-3})
    assert said == ["the best point of other is not tried: train.seed=3 is not searched"]
    with pytest.raises(ConfigError, match=r"there is no `tune` run at .*/third"):
        proposals_of(_config(first_from=["third"]), storage, True)
    (storage / "first").write_json("search.json", {"closed": False})
    with pytest.raises(ConfigError, match="has not ended"):
        proposals_of(_config(first_from=["first"]), storage, True)


def test_what_of_a_budget_is_spent_is_said() -> None:
    budget = BudgetSettings(hours=2, device_hours=3, money=10, price_per_device_hour=4)
    assert spent(budget, 1.9, 2.4) is None
    assert spent(budget, 2.0, 0.0) == "budget.hours=2"
    assert spent(budget, 0.0, 2.5) == "budget.money=10"
    assert spent(budget, 0.0, 3.0) == "budget.device_hours=3"
    assert spent(BudgetSettings(), 1e9, 1e9) is None


def test_seeds_of_the_best_point_have_names() -> None:
    assert final_ids(_config(final_seeds=[3, 1])) == {"final-seed-3": 3, "final-seed-1": 1}
