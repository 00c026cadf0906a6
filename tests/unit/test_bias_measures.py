"""Measures of bias: by hand, on a model built to be biased by a known amount, and on one built to be fair."""

from math import log, sqrt

import numpy as np
import pytest

from llmcore.bias.answers import Answer, counted, scores_of_counts
from llmcore.bias.association import association
from llmcore.bias.coreference import accuracy_gap
from llmcore.bias.preference import preference, scores_of_targets, target_shares
from llmcore.errors import ConfigError

NUM_SEEDS = 1000
FAIR_AT_LEAST = 930


class Bigrams:
    """A model whose next word hangs on the one before: of each group word it prefers one of two attributes."""

    def __init__(self, seed: int, num_groups: int, planted: float) -> None:
        """`planted`: the probability that a group's word makes its stereotype the likelier attribute."""
        generator = np.random.default_rng(seed)
        stereotyped = generator.random(num_groups) < planted
        self.table = np.where(stereotyped, 0.6, 0.4)

    def scores(self) -> tuple[list[float], list[float]]:
        """Log-likelihoods of `the <group> is <stereotype>` and `the <group> is <counterpart>`, of each group."""
        shared = log(1 / len(self.table)) + log(1.0)  # of the group's word, and of `is` behind it
        return [shared + log(p) for p in self.table], [shared + log(1 - p) for p in self.table]


def test_pairs_by_hand() -> None:
    found = preference([-1.0, -2.0, -3.0, -4.0], [-2.0, -1.0, -4.0, -4.0])
    assert (found.share, found.num_pairs, found.num_alike) == (0.5, 4, 1)
    # Wilson's interval of 2 of 4, z = 1.959964: (0.5 + z²/8 ± z sqrt(1/16 + z²/64)) / (1 + z²/4).
    z = 1.959964
    half = z * sqrt(0.25 / 4 + z**2 / 64) / (1 + z**2 / 4)
    assert (found.low, found.high) == (pytest.approx(0.5 - half, abs=1e-6), pytest.approx(0.5 + half, abs=1e-6))


@pytest.mark.parametrize("planted", [0.5, 0.7, 0.9])
def test_a_planted_preference_is_recovered_within_its_interval(planted: float) -> None:
    found = [preference(*Bigrams(seed, 200, planted).scores()) for seed in range(NUM_SEEDS)]
    assert sum(one.low <= planted <= one.high for one in found) >= FAIR_AT_LEAST
    if planted > 0.5:
        assert sum(one.is_biased for one in found) >= FAIR_AT_LEAST, "and it is called a bias"


def test_a_fair_model_is_not_called_biased() -> None:
    fair = [preference(*Bigrams(seed, 150, 0.5).scores()) for seed in range(NUM_SEEDS)]
    assert sum(not one.is_biased for one in fair) >= FAIR_AT_LEAST


def _stereoset(stereotypical: list[float], anti: list[float], unrelated: list[float], targets: str) -> list[float]:
    """Language model score, stereotype score and ICAT of scores of three sentences an example."""
    rows = list(zip(stereotypical, anti, unrelated, strict=True))
    found: list[float] = scores_of_targets(target_shares(rows, [*targets]).sum(axis=0)).tolist()
    return found


def test_stereoset_s_ideal_models() -> None:
    """Nadeem et al. 2021, section 5.4: an ideal model has 100, one that is always stereotyped 0, a random one 50."""
    assert _stereoset([2, 1, 2, 1], [1, 2, 1, 2], [0, 0, 0, 0], "aabb") == [100, 50, 100]
    assert _stereoset([2, 2, 2, 2], [1, 1, 1, 1], [0, 0, 0, 0], "aabb") == [100, 100, 0]
    assert _stereoset([2, 0, 2, 0], [1, 1, 1, 1], [1.5, 0.5, 1.5, 0.5], "aabb") == [50, 50, 50]


def test_each_target_of_stereoset_weighs_alike() -> None:
    """Three examples of one target and one of another: 1/3 and 1 are 2/3 together, and not 1/2."""
    _, stereotype, icat = _stereoset([2, 0, 0, 2], [1, 1, 1, 1], [-1] * 4, "aaab")
    assert stereotype == pytest.approx(100 * 2 / 3)
    assert icat == pytest.approx(100 * (1 / 3) / 0.5)


def _answers(ambiguous: bool, *given: tuple[bool, str, str]) -> list[Answer]:
    return [Answer(ambiguous, negative, told, right) for negative, told, right in given]  # type: ignore[arg-type]


def _bbq(answers: list[Answer], ambiguous: bool) -> tuple[float, float]:
    """Accuracy and bias of the answers of one kind of context."""
    counts = [counted(one) for one in answers if one.is_ambiguous == ambiguous]
    accuracy, bias = scores_of_counts(np.sum(counts, axis=0), ambiguous=ambiguous).tolist()
    return accuracy, bias


def test_bbq_by_hand() -> None:
    """Parrish et al. 2022, section 4: only what names somebody can be biased; ambiguous bias shrinks with accuracy."""
    ambiguous = _answers(
        True,
        (True, "target", "unknown"),  # the group is held to be so
        (True, "other", "unknown"),
        (False, "other", "unknown"),  # the other is held to be the opposite: the same
        (False, "unknown", "unknown"),
    )
    assert _bbq(ambiguous, True) == pytest.approx((0.25, (1 - 0.25) * (2 * 2 / 3 - 1)))
    told = _answers(False, (True, "target", "other"), (True, "target", "target"), (False, "target", "target"))
    assert _bbq([*ambiguous, *told], False) == pytest.approx((2 / 3, 2 * 2 / 3 - 1))
    assert _bbq(_answers(True, (True, "unknown", "unknown")), True) == (1.0, 0.0)


def test_bbq_s_extremes() -> None:
    """All with the stereotype is 1, all against it is -1."""
    every = [(True, "target", "other"), (False, "other", "target")]
    assert _bbq(_answers(False, *every), False)[1] == 1
    against = [(True, "other", "other"), (False, "target", "target")]
    assert _bbq(_answers(False, *against), False)[1] == -1


def test_a_gap_of_accuracies_by_hand() -> None:
    """Newcombe 1998, table II, (a) 56/70 and 48/80: 0.2, from 0.0524 to 0.3339."""
    found = accuracy_gap([True] * 56 + [False] * 14, [True] * 48 + [False] * 32)
    assert found.gap == pytest.approx(0.2)
    assert (found.low, found.high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))
    assert found.is_biased and (found.num_pro, found.num_anti) == (70, 80)


def test_gaps_of_fair_and_of_biased_models() -> None:
    fair = biased = 0
    for seed in range(NUM_SEEDS):
        right = np.random.default_rng(seed).random((2, 400))
        fair += not accuracy_gap([*(right[0] < 0.7)], [*(right[1] < 0.7)]).is_biased
        found = accuracy_gap([*(right[0] < 0.8)], [*(right[1] < 0.6)])
        biased += found.is_biased and found.low <= 0.2 <= found.high
    assert fair >= FAIR_AT_LEAST and biased >= FAIR_AT_LEAST


def test_an_association_by_hand() -> None:
    """X stands on A and Y on B: s is 1 and -1, their difference 2, and the deviation of (1, 1, -1, -1) is 2/sqrt(3)."""
    a, b = np.array([[1.0, 0.0]]), np.array([[0.0, 2.0]])
    found = association((np.array([[2.0, 0.0]] * 2), np.array([[0.0, 1.0]] * 2)), (a, b), seed=0)
    assert found.effect_size == pytest.approx(2 / (2 / sqrt(3)))
    assert (found.p_value, found.num_partitions, found.is_exact) == (0.0, 6, True), "no partition differs more"
    turned = association((np.array([[0.0, 1.0]] * 2), np.array([[2.0, 0.0]] * 2)), (a, b), seed=0)
    assert turned.effect_size == pytest.approx(-sqrt(3)) and turned.p_value == pytest.approx(5 / 6)


def test_an_association_is_refused_where_it_is_none() -> None:
    one = np.ones((1, 2))
    with pytest.raises(ConfigError, match="they have 2 and 1"):
        association((np.ones((2, 2)), one), (one, one), seed=0)
    with pytest.raises(ConfigError, match="attributes of 0 and 1"):
        association((one, one), (np.ones((0, 2)), one), seed=0)


def test_associations_of_fair_and_of_biased_words() -> None:
    fair = biased = 0
    for seed in range(NUM_SEEDS):
        generator = np.random.default_rng(seed)
        words = generator.normal(size=(4, 5, 12))
        fair += association((words[0], words[1]), (words[2], words[3]), seed=seed).p_value > 0.05
        near = (words[0] + 2 * words[2].mean(axis=0), words[1] + 2 * words[3].mean(axis=0))
        biased += association(near, (words[2], words[3]), seed=seed).p_value <= 0.05
    assert fair >= FAIR_AT_LEAST and biased >= FAIR_AT_LEAST


def test_of_many_words_partitions_are_drawn() -> None:
    generator = np.random.default_rng(1)
    words = generator.normal(size=(2, 20, 8))
    attributes = generator.normal(size=(2, 6, 8))
    found = association((words[0], words[1]), (attributes[0], attributes[1]), seed=3)
    assert not found.is_exact and 0 < found.p_value < 1
    assert found == association((words[0], words[1]), (attributes[0], attributes[1]), seed=3)
