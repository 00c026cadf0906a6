"""When a training has gained nothing for so many validations, and which of two values is the better one."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llmcore.config.train import TrainSettings
from llmcore.evaluation.compared import LOSS, Compared
from llmcore.train.early_stopping import after_validation, stops_early
from llmcore.train.progress import Progress

F1 = Compared("macro_f1", higher_is_better=True)
values = st.lists(st.floats(-10, 10), max_size=12)


def _settings(**stopping: Any) -> TrainSettings:
    return TrainSettings.model_validate(
        {"num_steps": 9, "validate_every": 1, **({"early_stopping": stopping} if stopping else {})}
    )


def _after(told: list[float], settings: TrainSettings, compared: Compared = F1) -> Progress:
    progress = Progress()
    for value in told:
        progress = after_validation(progress, {compared.key: value}, compared, settings)
    return progress


@given(values, st.floats(0, 2), st.integers(1, 5))
def test_it_ends_after_as_many_values_that_exceed_no_earlier_gain(
    told: list[float], min_delta: float, patience: int
) -> None:
    settings = _settings(patience=patience, min_delta=min_delta)
    stale, gained = 0, -math.inf
    for value in told:
        stale, gained = (0, value) if value - gained > min_delta else (stale + 1, gained)
    progress = _after(told, settings)
    assert progress.validations_without_gain == stale
    assert stops_early(progress, settings) == (stale >= patience)
    mirrored = _after([-value for value in told], settings, LOSS)
    assert mirrored.validations_without_gain == stale
    assert Progress(**progress.to_json()) == progress


def test_small_gains_add_up() -> None:
    settings = _settings(patience=2, min_delta=0.1)
    assert not stops_early(_after([0.5, 0.56, 0.62, 0.68], settings), settings)
    assert stops_early(_after([0.5, 0.56, 0.58], settings), settings)


def test_a_run_goes_on_when_it_is_given_more_patience() -> None:
    progress = _after([0.5, 0.4, 0.3], _settings(patience=2))
    assert stops_early(progress, _settings(patience=2))
    assert not stops_early(progress, _settings(patience=3))
    assert not stops_early(progress, _settings())


def test_what_is_undefined_is_no_gain_and_anything_is_better() -> None:
    nan = math.nan
    assert F1.better({F1.key: nan}, None) is not None  # something must be kept
    assert F1.better({F1.key: nan}, 0.1) is None
    assert F1.better({F1.key: nan}, nan) is None
    assert F1.better({F1.key: -3.0}, nan) == -3.0
    assert stops_early(_after([nan, nan, nan], _settings(patience=2)), _settings(patience=2))


def test_without_validations_there_is_nothing_to_judge() -> None:
    with pytest.raises(ValidationError, match="validate_every=null"):
        TrainSettings.model_validate({"num_steps": 9, "early_stopping": {}})
