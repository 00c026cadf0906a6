"""Intervals cover what they should, agree with SciPy's, and are wider where rows of a group resemble each other."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sacrebleu
from numpy.typing import NDArray
from scipy.stats import bootstrap
from sklearn import metrics as sk

from llmcore.errors import CorpusError
from llmcore.evaluation.bootstrap import Interval, Measured, Resampling, difference_intervals
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.metrics import make_metrics
from tests.predictions import classes, rows_of


def measured(subject: Subject, names: Sequence[str], rows: pa.Table) -> Measured:
    return Measured.of(make_metrics(subject, names), rows)


def binary(right: NDArray[np.bool_], groups: NDArray[np.int64]) -> Measured:
    """Predictions that are right or wrong."""
    rows = rows_of(groups, label=np.zeros(len(right), dtype=int), prediction=(~right).astype(int))
    return measured(classes(2), ["accuracy", "macro_f1"], rows)


def accuracy(of: Measured, num_resamples: int, seed: int) -> Interval:
    return of.intervals(Resampling(num_resamples, seed))["accuracy"]


def simulated(
    generator: np.random.Generator, *, num_groups: int, rows: int, spread: float
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Groups whose chance of being right is 0.7 on average and differs between groups by `spread`."""
    chance = generator.choice([0.7 - spread, 0.7 + spread], size=num_groups)
    groups = np.repeat(np.arange(num_groups), rows)
    return generator.random(len(groups)) < chance[groups], groups


def test_one_row_a_group_is_the_ordinary_bootstrap_of_scipy() -> None:
    right = np.random.default_rng(0).random(200) < 0.7
    ours = accuracy(binary(right, np.arange(200)), 10_000, 1)
    theirs = bootstrap((right.astype(float),), np.mean, n_resamples=10_000, method="percentile", rng=2)
    assert ours.value == right.mean()
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.006)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.006)


def by_a_plain_loop(
    rows: pa.Table, score: Callable[[pa.Table], float], num_resamples: int, seed: int
) -> tuple[float, float]:
    """Draw groups, write their rows out, and ask the library itself."""
    names = sorted(set(rows["group"].to_pylist()))
    rows_of_group = [np.flatnonzero(np.asarray(rows["group"].to_pylist()) == name) for name in names]
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(num_resamples):
        counts = generator.multinomial(len(names), np.full(len(names), 1 / len(names)))
        drawn = [own for own, count in zip(rows_of_group, counts, strict=True) for _ in range(count)]
        values.append(score(rows.take(np.concatenate(drawn))))
    low, high = np.quantile([value for value in values if not np.isnan(value)], [0.025, 0.975])
    return float(low), float(high)


def of_columns(score: Callable[..., Any], *names: str) -> Callable[[pa.Table], float]:
    return lambda rows: float(score(*(rows[name].to_pylist() for name in names)))


def area(rows: pa.Table) -> float:
    labels, scores = rows["label"].to_numpy(), np.array(rows["probabilities"].to_pylist())
    return float(sk.roc_auc_score(labels, scores, multi_class="ovr")) if len(set(labels)) == 3 else float("nan")


GENERATOR = np.random.default_rng(0)
GROUPS = [f"g{row % 12:02}" for row in range(60)]
CLASSIFIED = rows_of(
    GROUPS,
    label=GENERATOR.integers(0, 3, size=60),
    prediction=GENERATOR.integers(0, 3, size=60),
    probabilities=GENERATOR.dirichlet(np.ones(3), size=60),
)
WORDS = np.array(["the", "a", "man", "dog", "runs", "red", "."])
TRANSLATED = rows_of(
    GROUPS,
    target=[" ".join(GENERATOR.choice(WORDS, size=9)) for _ in range(60)],
    prediction=[" ".join(GENERATOR.choice(WORDS, size=9)) for _ in range(60)],
)
BY_LIBRARIES: list[tuple[Subject, str, pa.Table, Callable[[pa.Table], float]]] = [
    (classes(3), "accuracy", CLASSIFIED, of_columns(sk.accuracy_score, "label", "prediction")),
    (
        classes(3),
        "macro_f1",
        CLASSIFIED,
        of_columns(lambda *pair: sk.f1_score(*pair, average="macro", zero_division=0.0), "label", "prediction"),
    ),
    (classes(3), "matthews", CLASSIFIED, of_columns(sk.matthews_corrcoef, "label", "prediction")),
    (classes(3), "roc_auc", CLASSIFIED, area),
    (
        Subject("translation"),
        "bleu",
        TRANSLATED,
        lambda rows: sacrebleu.corpus_bleu(rows["prediction"].to_pylist(), [rows["target"].to_pylist()]).score,
    ),
    (
        Subject("translation"),
        "chrf",
        TRANSLATED,
        lambda rows: sacrebleu.corpus_chrf(rows["prediction"].to_pylist(), [rows["target"].to_pylist()]).score,
    ),
]


@pytest.mark.parametrize("subject, name, rows, score", BY_LIBRARIES, ids=[name for _, name, *_ in BY_LIBRARIES])
def test_an_interval_is_that_of_resampled_rows_given_to_the_library(
    subject: Subject, name: str, rows: pa.Table, score: Callable[[pa.Table], float]
) -> None:
    ours = measured(subject, [name], rows).intervals(Resampling(60, 3))[name]
    assert ours.value == pytest.approx(score(rows), abs=1e-12)
    assert (ours.low, ours.high) == pytest.approx(by_a_plain_loop(rows, score, 60, 3), abs=1e-12)


@pytest.mark.parametrize("spread", [0.0, 0.25])
def test_intervals_cover_the_truth_about_95_times_in_100(spread: float) -> None:
    generator = np.random.default_rng(7)
    covered = 0
    for trial in range(200):
        interval = accuracy(binary(*simulated(generator, num_groups=60, rows=10, spread=spread)), 300, trial)
        covered += interval.low <= 0.7 <= interval.high
    # 190 expected; a binomial's standard deviation is 3.1, and the percentile method is a little narrow.
    assert 178 <= covered <= 198


def test_resampling_rows_instead_of_groups_would_claim_too_much() -> None:
    generator = np.random.default_rng(7)
    covered = 0
    for trial in range(100):
        right, _ = simulated(generator, num_groups=15, rows=20, spread=0.25)
        by_row = accuracy(binary(right, np.arange(300)), 300, trial)
        covered += by_row.low <= 0.7 <= by_row.high
    assert covered < 80


def test_a_paired_difference_is_narrower_than_two_models_apart() -> None:
    generator = np.random.default_rng(1)
    groups = np.repeat(np.arange(50), 8)
    hard = generator.random(50)[groups] < 0.4
    first = binary(~hard | (generator.random(400) < 0.15), groups)
    second = binary(~hard | (generator.random(400) < 0.05), groups)
    paired = difference_intervals(first, second, Resampling(2000, 0))["accuracy"]
    apart = [accuracy(model, 2000, 0) for model in (first, second)]
    assert paired.value == pytest.approx(apart[0].value - apart[1].value)
    assert paired.high - paired.low < 0.6 * np.hypot(*(one.high - one.low for one in apart))


def test_a_model_does_not_differ_from_itself_and_a_difference_changes_sign() -> None:
    generator = np.random.default_rng(1)
    first, second = (binary(*simulated(generator, num_groups=20, rows=5, spread=0.1)) for _ in range(2))
    resampling = Resampling(200, 0)
    assert difference_intervals(first, first, resampling)["macro_f1"] == Interval(0.0, 0.0, 0.0)
    forth, back = (difference_intervals(*pair, resampling) for pair in ((first, second), (second, first)))
    for name in ("accuracy", "macro_f1"):
        reversed_ = (-forth[name].value, -forth[name].high, -forth[name].low)
        assert (back[name].value, back[name].low, back[name].high) == pytest.approx(reversed_)


def test_the_seed_decides_and_how_resamples_are_cut_into_chunks_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    of = measured(classes(3), ["macro_f1", "roc_auc"], CLASSIFIED)
    one, other = (of.intervals(Resampling(300, seed)) for seed in (1, 2))
    assert one != other
    monkeypatch.setattr("llmcore.evaluation.bootstrap._CHUNK_DRAWS", 7 * 60)
    assert of.intervals(Resampling(300, 1)) == one


def test_resamples_in_which_a_metric_is_undefined_are_left_out_and_counted() -> None:
    rows = rows_of(label=[0, 0, 1, 1], probabilities=[[0.9, 0.1], [0.4, 0.6], [0.6, 0.4], [0.1, 0.9]])
    found = measured(classes(2), ["roc_auc"], rows).intervals(Resampling(2000, 0))["roc_auc"]
    assert found.num_undefined == pytest.approx(2000 * 2 / 2**4, rel=0.2)  # four rows of one side
    assert (found.value, found.low, found.high) == (0.75, 0.0, 1.0)
    assert found.to_json()["num_undefined"] == found.num_undefined
    one_side = rows.slice(0, 2)
    assert measured(classes(2), ["roc_auc"], one_side).intervals(Resampling(100, 0)) == {}


def test_parts_of_the_rows_are_judged_alone_on_the_draws_of_all_groups() -> None:
    names = ["accuracy", "macro_f1", "roc_auc", "calibration_error"]
    of = measured(classes(3), names, CLASSIFIED)
    index = np.flatnonzero(np.arange(60) % 12 < 5)  # of five groups of twelve
    assert of.values(index) == pytest.approx(measured(classes(3), names, CLASSIFIED.take(index)).values())
    marked = CLASSIFIED.append_column("own", pa.array(np.isin(np.arange(60), index)))
    found = of.part_intervals({"own": index, "all": np.arange(60)}, Resampling(200, 3))
    assert found["all"] == of.intervals(Resampling(200, 3))

    def accuracy_of_part(rows: pa.Table) -> float:
        own = rows.filter(rows["own"])
        return float(np.mean(own["label"].to_numpy() == own["prediction"].to_numpy())) if own.num_rows else np.nan

    ours = found["own"]["accuracy"]
    assert (ours.low, ours.high) == pytest.approx(by_a_plain_loop(marked, accuracy_of_part, 200, 3))


def test_a_draw_without_a_row_of_a_part_is_counted_as_undefined() -> None:
    of = binary(np.array([True, False, True, False]), np.array([0, 1, 2, 3]))
    found = of.part_intervals({"two": np.array([0, 1])}, Resampling(2000, 0))["two"]["accuracy"]
    assert found.num_undefined == pytest.approx(2000 / 2**4, rel=0.2)


def test_two_thousand_resamples_of_four_thousand_rows_take_seconds_and_no_gigabytes() -> None:
    import tracemalloc

    generator = np.random.default_rng(0)
    rows = rows_of(
        label=generator.integers(0, 2, size=4000),
        prediction=generator.integers(0, 2, size=4000),
        probabilities=generator.dirichlet(np.ones(2), size=4000),
    )
    of = measured(classes(2), ["macro_f1", "roc_auc"], rows)
    started = time.perf_counter()
    tracemalloc.start()
    of.intervals(Resampling(2000, 0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400 * 2**20
    assert time.perf_counter() - started < 30


def test_what_cannot_be_resampled_or_paired_is_refused() -> None:
    right, groups = simulated(np.random.default_rng(1), num_groups=5, rows=5, spread=0.1)
    with pytest.raises(CorpusError, match="the split has 1"):
        binary(right[:5], groups[:5]).intervals(Resampling(100, 0))
    with pytest.raises(ValueError, match="rows differ"):
        difference_intervals(binary(right, groups), binary(right[:-1], groups[:-1]), Resampling(100, 0))
