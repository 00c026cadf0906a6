"""A transfer's points, and what is refused before one trains."""

from typing import Any

import pytest
from pydantic import ValidationError

from llmcore.config.fingerprint import fingerprint, flagged_of
from llmcore.config.loading import validate_data
from llmcore.config.transfer import Point, TransferConfig

OPTIMIZER = {"learning_rate": 5e-5, "head_learning_rate_factor": 10.0, "layer_learning_rate_decay": 0.9}


def config(**changes: Any) -> TransferConfig:
    given = {"name": "a", "base": "b", "data": "p/d", "labels": [100, 10], "epochs": [2, 0.5]}
    return validate_data(TransferConfig, given | changes)


def test_points_are_all_budgets_with_both_weights_by_turns() -> None:
    points = config(seeds=[0, 7]).points()
    assert len(points) == len(set(points)) == len({point.id for point in points}) == 2 * 2 * 2 * 2
    assert points[:3] == [
        Point("pretrained", 10, 0.5, 0),
        Point("random", 10, 0.5, 0),
        Point("pretrained", 10, 2.0, 0),
    ]
    assert points[0].id == "pretrained-10-rows-0.5-epochs-seed-0"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"labels": [*range(1, 8)]}, "2 kinds of weights x 7 labels x 2 epochs x 1 seeds are 28 points"),
        ({"labels": [*range(1, 8)]}, "max_points=24: give fewer, or raise it"),
        ({"labels": [10, 10]}, "labels=[10, 10] has one of them twice"),
        ({"labels": [0]}, "labels=[0]: 0 cannot be one; each is 1 or more"),
        ({"epochs": [0]}, "epochs=[0.0]: 0.0 cannot be one; each is more than 0"),
        ({"seeds": [-1]}, "seeds=[-1]: -1 cannot be one; each is 0 or more"),
        ({"train": {"seed": 3}}, "train.seed=3: `seeds` has that of each point"),
        ({"train": {"num_epochs": 3}}, "Extra inputs are not permitted"),
        ({"train": {"early_stopping": {"patience": 1}}}, "Extra inputs are not permitted"),
        ({"train": {"global_batch_size": 1}}, "train.global_batch_size=1 is smaller than workers.num_workers=2"),
        ({"task": {"validation_metric": "loss"}}, "task.validation_metric=loss has no interval"),
        ({"method": {"name": "lora"}, "train": {"optimizer": {"kind": "muon"}}}, "use adamw"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        config(**changes)
    assert told in str(caught.value)


def test_more_points_are_allowed_where_that_is_said() -> None:
    assert len(config(labels=[*range(1, 8)], max_points=28).points()) == 28


def test_a_point_is_a_fine_tuning_of_its_own_length_and_seed() -> None:
    given = config(method={"name": "lora"}, train={"optimizer": OPTIMIZER}, seeds=[7])
    settings = given.settings_of(Point("pretrained", 10, 0.5, 7))
    assert (settings.train.num_epochs, settings.train.seed, settings.train.num_steps) == (0.5, 7, None)
    assert (settings.weights, settings.method.name) == ("pretrained", "lora")
    assert settings.train.optimizer == given.train.optimizer
    assert (settings.train.early_stopping, settings.train.validate_every) == (None, None)


def test_random_weights_train_all_of_the_model_at_a_rate_of_their_own() -> None:
    given = config(method={"name": "lora"}, train={"optimizer": OPTIMIZER}, random_learning_rate=1e-3)
    settings = given.settings_of(Point("random", 10, 0.5, 0))
    assert (settings.weights, settings.method.name) == ("random", "full")
    optimizer = settings.train.optimizer
    assert optimizer.learning_rate == 1e-3
    assert (optimizer.head_learning_rate_factor, optimizer.layer_learning_rate_decay) == (1.0, 1.0)
    alike = config(train={"optimizer": OPTIMIZER}).settings_of(Point("random", 10, 0.5, 0))
    assert alike.train.optimizer == config(train={"optimizer": OPTIMIZER}).train.optimizer


def test_more_budgets_are_the_same_run_under_a_flag() -> None:
    fewer, more = config(), config(labels=[10, 100, 1000], seeds=[0, 1])
    assert fingerprint(fewer, {}, 1) == fingerprint(more, {}, 1)
    assert flagged_of(fewer) != flagged_of(more)
    assert fingerprint(fewer, {}, 1) != fingerprint(config(random_learning_rate=1e-3), {}, 1)
