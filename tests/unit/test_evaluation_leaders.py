"""The honest statistician: of searches whose trials differ by luck alone the winner is not called the better one."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from llmcore.evaluation.bootstrap import (
    Measured,
    Resampling,
    difference_intervals,
    distinguishable_from_first,
)
from llmcore.evaluation.metrics import make_metrics
from tests.drivers import ROOT, environment, run
from tests.predictions import classes, rows_of

NUM_TRIALS, NUM_ROWS = 50, 1000
RESAMPLING = Resampling(1000, seed=3)
Right = NDArray[np.bool_]


def _measured(right: Right) -> Measured:
    rows = rows_of(np.arange(len(right)), label=np.zeros(len(right), dtype=int), prediction=(~right).astype(int))
    return Measured.of(make_metrics(classes(2), ["accuracy"]), rows)


def _searched(generator: np.random.Generator, gap: float, num_rows: int = NUM_ROWS) -> Right:
    """Whether each trial is right, [trials, rows]: rows are easy or hard for all; the first is better by `gap`."""
    chance = generator.beta(3.4, 0.6, size=num_rows)  # 0.85 on average
    right = generator.random((NUM_TRIALS, num_rows)) < chance
    right[0] |= generator.random(num_rows) < gap / 0.15
    return right


def _declared(seed: int, gap: float) -> bool:
    """Whether the winner of a search is called better than the next one, as an evaluation does."""
    generator = np.random.default_rng([seed, round(1000 * gap)])
    validation, test = _searched(generator, gap), _searched(generator, gap)
    winner, following = np.argsort(-validation.mean(axis=1), kind="stable")[:2]
    apart = difference_intervals(_measured(test[winner]), _measured(test[following]), RESAMPLING)["accuracy"]
    return apart.low > 0


def _shares(num_searches: int) -> tuple[float, float]:
    """Of so many searches: not distinguishable though all are alike; declared where there is a gap of five points."""
    alike = np.mean([not _declared(seed, 0.0) for seed in range(num_searches)])
    planted = np.mean([_declared(seed, 0.05) for seed in range(num_searches)])
    print(
        f"{num_searches} searches: not distinguishable {alike:.1%}; a planted gap of five points declared {planted:.1%}"
    )
    return float(alike), float(planted)


def test_luck_is_not_declared_and_five_points_are() -> None:
    alike, planted = _shares(30)
    assert alike >= 0.9 and planted >= 0.7


@pytest.mark.proof
@pytest.mark.proof_statistics
@pytest.mark.timeout(3000)
def test_luck_is_not_declared_and_five_points_are_of_a_thousand_searches() -> None:
    alike, planted = _shares(1000)
    assert alike >= 0.93 and planted >= 0.80


def test_of_many_that_are_alike_none_is_told_from_the_leader() -> None:
    """The share of searches in which any of 20 is called worse than the one that was chosen among them."""
    wrong, pairwise = 0, 0
    for seed in range(80):
        right = _searched(np.random.default_rng(seed), 0.0, num_rows=300)[:20]
        models = [_measured(one) for one in right[np.argsort(-right.mean(axis=1), kind="stable")]]
        wrong += any(distinguishable_from_first(models, "accuracy", Resampling(300, seed)))
        last = difference_intervals(models[0], models[-1], Resampling(300, seed))["accuracy"]
        pairwise += last.excludes_zero
    assert wrong <= 9, "5 % of 80 searches, and what chance adds to it in one of a hundred"
    assert pairwise > 40, "without correction the last would be called worse in most searches"


def test_what_is_far_behind_is_told_from_the_leader() -> None:
    generator = np.random.default_rng(0)
    shares = (0.9, 0.89, 0.75, 0.5)
    models = [_measured(generator.random(600) < share) for share in shares]
    assert distinguishable_from_first(models, "accuracy", Resampling(500, 0)) == [False, True, True]


def test_two_models_are_the_paired_bootstrap() -> None:
    generator = np.random.default_rng(1)
    told = []
    for gap in np.linspace(0, 0.12, 13):
        first, second = generator.random(400) < 0.8 + gap, generator.random(400) < 0.8
        pair = [_measured(first), _measured(second)]
        apart = difference_intervals(*pair, Resampling(2000, 0))["accuracy"]
        told.append(distinguishable_from_first(pair, "accuracy", Resampling(2000, 0)) == [apart.excludes_zero])
    assert sum(told) >= 12


def test_rows_of_two_models_must_be_the_same() -> None:
    with pytest.raises(ValueError, match="rows differ"):
        distinguishable_from_first(
            [_measured(np.ones(4, dtype=bool)), _measured(np.ones(5, dtype=bool))], "accuracy", Resampling(100, 0)
        )


@pytest.mark.proof
@pytest.mark.proof_statistics
def test_fifty_models_of_ten_thousand_rows_need_no_two_gigabytes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.large_board", str(tmp_path), "50", "10000"]
    ended = run(command, cwd=ROOT, env=environment(), timeout_s=500)
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    print(f"{told} in {ended.seconds:.0f} s")
    assert told["peak_mb"] < 2000 and int(told["leader"][1:]) > 40
    assert pq.read_metadata(tmp_path / "evaluation/predictions.parquet").num_rows == 51 * 10_000
