"""Intervals cover what they should, agree with SciPy's, and are wider where rows of a group resemble each other."""

import time

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import bootstrap

from llmcore.errors import CorpusError
from llmcore.evaluation.bootstrap import Interval, difference_interval, metric_interval
from llmcore.evaluation.metrics import METRICS, group_confusions


def binary(right: NDArray[np.bool_], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Confusions by group of predictions that are right or wrong."""
    return group_confusions(np.zeros(len(right), dtype=int), (~right).astype(int), [f"{g:04}" for g in groups], 2)


def simulated(generator: np.random.Generator, *, num_groups: int, rows: int, spread: float) -> NDArray[np.int64]:
    """Groups whose chance of being right is 0.7 on average and differs between groups by `spread`."""
    chance = generator.choice([0.7 - spread, 0.7 + spread], size=num_groups)
    groups = np.repeat(np.arange(num_groups), rows)
    return binary(generator.random(len(groups)) < chance[groups], groups)


def test_one_row_a_group_is_the_ordinary_bootstrap_of_scipy() -> None:
    right = np.random.default_rng(0).random(200) < 0.7
    ours = metric_interval("accuracy", binary(right, np.arange(200)), num_resamples=10_000, seed=1)
    theirs = bootstrap((right.astype(float),), np.mean, n_resamples=10_000, method="percentile", rng=2)
    assert ours.value == right.mean()
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.006)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.006)


def test_macro_f1_resamples_are_those_of_resampled_rows() -> None:
    generator = np.random.default_rng(0)
    labels, predictions = generator.integers(0, 3, size=(2, 60))
    groups = [f"g{row % 12:02}" for row in range(60)]
    ours = metric_interval("macro_f1", group_confusions(labels, predictions, groups, 3), num_resamples=4000, seed=3)
    rows_of = [np.flatnonzero(np.asarray(groups) == name) for name in sorted(set(groups))]
    values = []
    for _ in range(200):
        rows = np.concatenate([rows_of[group] for group in generator.integers(0, 12, size=12)])
        values.append(METRICS["macro_f1"].of_predictions(labels[rows], predictions[rows]))
    low, high = np.quantile(values, [0.025, 0.975])
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.04)


@pytest.mark.parametrize("spread", [0.0, 0.25])
def test_intervals_cover_the_truth_about_95_times_in_100(spread: float) -> None:
    generator = np.random.default_rng(7)
    covered = 0
    for trial in range(200):
        confusions = simulated(generator, num_groups=60, rows=10, spread=spread)
        interval = metric_interval("accuracy", confusions, num_resamples=300, seed=trial)
        covered += interval.low <= 0.7 <= interval.high
    # 190 expected; a binomial's standard deviation is 3.1, and the percentile method is a little narrow.
    assert 178 <= covered <= 198


def test_resampling_rows_instead_of_groups_would_claim_too_much() -> None:
    generator = np.random.default_rng(7)
    covered = 0
    for trial in range(100):
        confusions = simulated(generator, num_groups=15, rows=20, spread=0.25)
        right = np.repeat([True, False], [confusions[:, 0, 0].sum(), confusions[:, 0, 1].sum()])
        by_row = metric_interval("accuracy", binary(right, np.arange(300)), num_resamples=300, seed=trial)
        covered += by_row.low <= 0.7 <= by_row.high
    assert covered < 80


def test_a_paired_difference_is_narrower_than_two_models_apart() -> None:
    generator = np.random.default_rng(1)
    groups = np.repeat(np.arange(50), 8)
    hard = generator.random(50)[groups] < 0.4
    first = binary(~hard | (generator.random(400) < 0.15), groups)
    second = binary(~hard | (generator.random(400) < 0.05), groups)
    paired = difference_interval("accuracy", first, second, num_resamples=2000, seed=0)
    apart = [metric_interval("accuracy", model, num_resamples=2000, seed=0) for model in (first, second)]
    assert paired.value == pytest.approx(apart[0].value - apart[1].value)
    assert paired.high - paired.low < 0.6 * np.hypot(*(one.high - one.low for one in apart))


def test_a_model_does_not_differ_from_itself_and_a_difference_changes_sign() -> None:
    generator = np.random.default_rng(1)
    first, second = (simulated(generator, num_groups=20, rows=5, spread=0.1) for _ in range(2))
    assert difference_interval("macro_f1", first, first, num_resamples=200, seed=0) == Interval(0.0, 0.0, 0.0)
    forth = difference_interval("macro_f1", first, second, num_resamples=200, seed=0)
    back = difference_interval("macro_f1", second, first, num_resamples=200, seed=0)
    assert (back.value, back.low, back.high) == pytest.approx((-forth.value, -forth.high, -forth.low))


def test_the_seed_decides_and_how_resamples_are_cut_into_chunks_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    labels, predictions = generator.integers(0, 3, size=(2, 150))
    confusions = group_confusions(labels, predictions, [f"m{row % 17}" for row in range(150)], 3)
    one, other = (metric_interval("macro_f1", confusions, num_resamples=300, seed=seed) for seed in (1, 2))
    assert one != other
    monkeypatch.setattr("llmcore.evaluation.bootstrap._CHUNK_DRAWS", 7 * 17)
    assert metric_interval("macro_f1", confusions, num_resamples=300, seed=1) == one


def test_two_thousand_resamples_of_seven_hundred_rows_take_under_two_seconds() -> None:
    generator = np.random.default_rng(0)
    labels, predictions = generator.integers(0, 10, size=(2, 700))
    confusions = group_confusions(labels, predictions, [f"m{row % 60}" for row in range(700)], 10)
    started = time.perf_counter()
    metric_interval("macro_f1", confusions, num_resamples=2000, seed=0)
    assert time.perf_counter() - started < 2


def test_what_cannot_be_resampled_or_paired_is_refused() -> None:
    confusions = simulated(np.random.default_rng(1), num_groups=5, rows=5, spread=0.1)
    with pytest.raises(CorpusError, match="the split has 1"):
        metric_interval("accuracy", confusions[:1], num_resamples=100, seed=0)
    with pytest.raises(ValueError, match="groups differ"):
        difference_interval("accuracy", confusions, confusions[:-1], num_resamples=100, seed=0)
