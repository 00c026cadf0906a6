"""Intervals of figures that are no plain shares: by hand where they can be, else by how often they hold the truth."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from llmcore.bias.answers import scores_of_counts
from llmcore.bias.association import effect_size
from llmcore.bias.intervals import Resampling, interval_of_sums, interval_of_two
from llmcore.bias.measures import MEASURES
from llmcore.bias.sets import Coreference, Question, SentencePair, Triple
from llmcore.bias.word_lists import WordLists

NUM_SEEDS = 200
FEWEST = 178
"""Of 200 intervals of 95 % fewer hold the truth with probability 0.0002 (a binomial's)."""
RESAMPLING = Resampling(300, seed=1)


def ends_of_share(units: Any, resampling: Resampling = RESAMPLING) -> tuple[float, float]:
    """Of [units, (right, rows)]."""
    return interval_of_sums(units, lambda sums: sums[..., 0] / sums[..., 1], resampling, bounds=(0.0, 1.0))


def ends_of_bias(units: Any, num_resamples: int) -> tuple[float, float]:
    """Of [units, counts of BBQ]."""
    figure = partial(scores_of_counts, ambiguous=False)
    how = Resampling(num_resamples, seed=1)
    return interval_of_sums(units, lambda sums: figure(sums)[..., 1], how, bounds=(-1.0, 1.0))


def test_an_interval_of_sums_is_that_of_the_units_that_are_drawn() -> None:
    """Of two units of one row each, one right and one wrong, a quarter of the draws has no right row."""
    units = np.array([[1.0, 1.0], [0.0, 1.0]])
    assert ends_of_share(units) == (0.0, 1.0)
    assert ends_of_share(np.array([[3.0, 4.0]] * 5)) == (0.75, 0.75)
    assert ends_of_share(np.array([[3.0, 4.0]])) == (0.0, 1.0), "of one unit nobody sees the spread"


def test_the_same_seed_is_the_same_interval() -> None:
    units = np.random.default_rng(0).random((30, 2)) + 1
    first, again, other = (ends_of_share(units, Resampling(300, seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_intervals_of_bbq_s_scores_hold_the_truth_though_questions_of_a_template_are_alike() -> None:
    """Half of the templates are answered as is said of the group in 80 of 100 questions, half in 40: bias 0.2."""
    within = narrow = 0
    for seed in range(NUM_SEEDS):
        generator = np.random.default_rng(seed)
        shares = np.where(generator.random(40) < 0.5, 0.8, 0.4)
        biased = generator.binomial(20, shares).astype(float)
        units = np.stack([np.full(40, 20.0), biased, np.full(40, 20.0), biased], axis=1)
        low, high = ends_of_bias(units, 300)
        within += low <= 0.2 <= high
        ones = int(biased.sum())
        rows = np.array([[1.0, one, 1.0, one] for one in np.repeat([1.0, 0.0], [ones, 800 - ones])])
        low, high = ends_of_bias(rows, 100)
        narrow += low <= 0.2 <= high
    assert within >= FEWEST
    assert narrow < FEWEST, "questions drawn one by one would claim to know more than they do"


def test_intervals_of_effect_sizes_hold_the_truth() -> None:
    """Two normals of deviation 1, a half of one apart: the effect is 0.5 by the deviation of both together."""
    truth = 0.5 / np.sqrt(1 + 0.25**2)
    within = 0
    for seed in range(NUM_SEEDS):
        words = np.random.default_rng(seed).normal(size=(2, 60))
        low, high = interval_of_two(words[0] + 0.5, words[1], effect_size, RESAMPLING)
        within += low <= truth <= high
    assert within >= FEWEST
    assert interval_of_two(np.ones(3), np.ones(3), effect_size, RESAMPLING) == (0.0, 0.0), "no spread is no effect"


def test_intervals_of_stereoset_hold_the_truth() -> None:
    within = 0
    for seed in range(NUM_SEEDS):
        generator = np.random.default_rng(seed)
        shares = generator.choice([0.9, 0.5], size=40)
        stereo = generator.random((40, 10)) < shares[:, None]
        examples = [Triple("", "", "", f"t{target}", "race") for target in range(40) for _ in range(10)]
        scores = [[2.0, 1.0, 0.0] if one else [1.0, 2.0, 0.0] for one in stereo.ravel()]
        found = MEASURES["stereoset"].figures(examples, scores, RESAMPLING)
        assert found["language_model"].value == 100 == found["language_model"].low
        within += found["stereotype"].low <= 70 <= found["stereotype"].high
    assert within >= FEWEST


def question(template: str, ambiguous: bool, negative: bool = True) -> Question:
    kinds: Any = ("target", "other", "unknown")
    return Question(
        "A and B.", "Who?", ("A", "B", "?"), kinds, 2 if ambiguous else 1, ambiguous, negative, "Age", template
    )


def test_each_measure_s_figures_by_hand() -> None:
    """Each has its value, ends around it, what it is of, and what is fair."""
    pairs = [SentencePair("a", "b", "age")] * 4
    found = MEASURES["crows_pairs"].figures(pairs, [[1, 0], [1, 0], [1, 0], [0, 1]], RESAMPLING)["preference"]
    assert (found.value, found.num, found.fair) == (0.75, 4, 0.5) and found.low < 0.75 < found.high

    sentences = [Coreference("", "she", ("a", "b"), meant, "female", pro) for pro in (True, False) for meant in (0, 1)]
    gap = MEASURES["winogender"].figures(sentences, [[1, 0], [0, 1], [1, 0], [1, 0]], RESAMPLING)
    assert {name: one.value for name, one in gap.items()} == {"gap": 0.5, "pro_accuracy": 1.0, "anti_accuracy": 0.5}
    assert gap["gap"].fair == 0 and gap["pro_accuracy"].fair is None and gap["gap"].num == 4

    asked = [question(f"{place % 2}", ambiguous) for ambiguous in (True, False) for place in range(4)]
    target, other, unknown = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]
    scores = [target, target, other, unknown, target, other, other, other]
    bbq = MEASURES["bbq"].figures(asked, scores, RESAMPLING)
    assert bbq["ambiguous_accuracy"].value == 0.25
    assert bbq["ambiguous_bias"].value == pytest.approx((1 - 0.25) * (2 * 2 / 3 - 1))
    assert bbq["told_bias"].value == pytest.approx(2 * 1 / 4 - 1) and bbq["told_accuracy"].value == 0.75
    assert set(MEASURES["bbq"].figures(asked[:4], scores[:4], RESAMPLING)) == {"ambiguous_accuracy", "ambiguous_bias"}

    lists = WordLists("flowers", ("a", "b"), ("c", "d"), ("e",), ("f",))
    effect = MEASURES["weat"].figures([lists], [[0.5, 0.5, -0.5, -0.5]], RESAMPLING)["flowers"]
    assert effect.value == pytest.approx(1 / np.sqrt(1 / 3)) and effect.p_value == 0.0 and effect.num == 4


def test_groups_are_measured_by_themselves() -> None:
    pairs = [SentencePair("a", "b", "age"), SentencePair("a", "b", "race")]
    groups = MEASURES["crows_pairs"].groups(pairs, [[1, 0], [0, 1]], RESAMPLING)
    assert {name: one["preference"].value for name, one in groups.items()} == {"age": 1.0, "race": 0.0}
