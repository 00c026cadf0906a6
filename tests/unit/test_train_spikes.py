"""Which losses are spikes, and what progress keeps of them."""

import math
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcore.config.spikes import SpikeSettings
from llmcore.errors import DivergedError
from llmcore.train.engine import StepResult
from llmcore.train.progress import Progress
from llmcore.train.spikes import check_spikes, spike_judge

losses = st.floats(min_value=0.01, max_value=100)


def taken(progress: Progress, loss: float, skipped: str | None = None, window: int = 4) -> Progress:
    return progress.after_step(StepResult(loss, 1.0, 1e-3, 7, (7,), False, skipped), window)  # type: ignore[arg-type]


@given(st.lists(losses, max_size=12), losses)
def test_a_spike_is_above_the_median_of_the_last_steps_and_there_are_enough_of_them(
    before: list[float], loss: float
) -> None:
    settings = SpikeSettings(window=4, factor=1.5)
    progress = Progress()
    for each in before:
        progress = taken(progress, each)
    judge = spike_judge(settings, progress)
    assert judge is not None
    assert judge(loss) == (len(before) >= 4 and loss > 1.5 * median(before[-4:]))
    assert judge(math.inf) and judge(math.nan)


def test_nobody_judges_where_spikes_are_not_looked_for() -> None:
    assert spike_judge(None, Progress(recent_losses=[1.0] * 40)) is None


@given(st.lists(st.sampled_from([None, "spike", "overflow"]), max_size=30))
def test_every_step_counts_and_a_spike_is_no_measure_of_spikes(kinds: list[str | None]) -> None:
    progress = Progress()
    for number, kind in enumerate(kinds):
        progress = taken(progress, float(number), kind)
    accepted = [float(number) for number, kind in enumerate(kinds) if kind is None]
    assert progress.step == len(kinds)
    assert progress.tokens_seen == 7 * len(kinds)
    assert progress.num_updates == len(accepted)
    assert progress.recent_losses == accepted[-4:]
    assert progress.last_loss == (accepted[-1] if accepted else None)
    assert Progress(**progress.to_json()) == progress


def test_after_a_rollback_the_optimizer_has_taken_the_checkpoint_s_steps_and_the_rows_stay_consumed() -> None:
    saved = taken(taken(Progress(), 1.0), 2.0, "spike")
    progress = taken(taken(saved, 3.0), 99.0, "spike").rolled_back_to(saved)
    assert (progress.step, progress.num_updates, progress.tokens_seen, progress.rollbacks) == (4, 1, 28, 1)
    assert progress.recent_losses == [1.0]


def test_too_many_in_a_row_are_an_error_that_nobody_retries() -> None:
    settings = SpikeSettings(max_in_a_row=2)
    progress = taken(Progress(), 1.0)
    for number in range(3):
        check_spikes(settings, progress)
        progress = taken(progress, 9.0, "spike")
        assert progress.spikes_in_a_row == number + 1
    with pytest.raises(DivergedError, match=r"3 spikes in a row, more than train.spikes.max_in_a_row=2"):
        check_spikes(settings, progress)
    assert taken(progress, 1.0).spikes_in_a_row == 0
