"""The learning rate is a function of the step, with the shapes that transformers has."""

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup, get_wsd_schedule

from llmcore.config.optimizer import ScheduleSettings
from llmcore.train.schedule import learning_rate_factor

NUM_STEPS, NUM_WARMUP = 200, 20


def factors(**given: object) -> list[float]:
    settings = ScheduleSettings.model_validate({"warmup_fraction": NUM_WARMUP / NUM_STEPS} | given)
    return [learning_rate_factor(settings, step, NUM_STEPS) for step in range(NUM_STEPS)]


def of_transformers(make: object, **given: object) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make(optimizer, num_warmup_steps=NUM_WARMUP, **given)  # type: ignore[operator]
    found = []
    for _ in range(NUM_STEPS):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            factors(kind="cosine", final_fraction=0),
            of_transformers(get_cosine_schedule_with_warmup, num_training_steps=NUM_STEPS),
        ),
        (
            factors(kind="linear", final_fraction=0),
            of_transformers(get_linear_schedule_with_warmup, num_training_steps=NUM_STEPS),
        ),
        (
            factors(kind="stable_decay", final_fraction=0.1, decay_fraction=0.25),
            of_transformers(
                get_wsd_schedule,
                num_training_steps=NUM_STEPS,
                num_decay_steps=50,
                min_lr_ratio=0.1,
                decay_type="1-sqrt",
            ),
        ),
    ],
    ids=["cosine", "linear", "stable_decay"],
)
def test_after_the_warm_up_the_shapes_are_those_of_transformers(ours: list[float], theirs: list[float]) -> None:
    assert ours[NUM_WARMUP:] == pytest.approx(theirs[NUM_WARMUP:], abs=1e-9)


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant", "stable_decay"])
def test_the_warm_up_reaches_the_peak_and_no_step_has_a_rate_of_zero(kind: str) -> None:
    found = factors(kind=kind)
    assert found[:NUM_WARMUP] == pytest.approx([(step + 1) / NUM_WARMUP for step in range(NUM_WARMUP)])
    assert max(found) == 1.0 and min(found) > 0


def test_before_its_decay_a_longer_run_has_the_same_rates() -> None:
    settings = ScheduleSettings(kind="stable_decay", warmup_fraction=0.0, decay_fraction=0.1)
    assert [learning_rate_factor(settings, step, 100) for step in range(90)] == [1.0] * 90
    assert [learning_rate_factor(settings, step, 1000) for step in range(90)] == [1.0] * 90
