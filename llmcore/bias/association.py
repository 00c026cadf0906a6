"""WEAT and SEAT: how much nearer one group of words or sentences stands to an attribute than another group does."""

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
import numpy.typing as npt

from llmcore.errors import ConfigError

__all__ = ["Association", "association", "effect_size", "nearness", "of_nearness"]

Floats = npt.NDArray[np.float64]

_MOST_EXACT = 20_000
"""As many partitions are tried one by one; of more, as many are drawn."""


@dataclass(frozen=True)
class Association:
    """How two target groups differ in what they are near to.

    Attributes:
        effect_size: In standard deviations of the targets' associations: 0 where there is no difference, at most 2.
        p_value: Share of the partitions of the targets into two such groups whose difference is larger.
        num_partitions: Of how many.
        is_exact: Whether these are all there are.
    """

    effect_size: float
    p_value: float
    num_partitions: int
    is_exact: bool


def association(targets: tuple[Floats, Floats], attributes: tuple[Floats, Floats], *, seed: int) -> Association:
    """The effect size of two target groups X, Y and two attributes A, B, with its one-sided permutation test.

    s(w) = mean of cos(w, a) over A, less that of cos(w, b) over B. The effect size is the difference of the means of s
    over X and over Y, by the standard deviation of s over both (of a sample, ddof 1, as in the authors' code).

    Source: Caliskan et al. 2017 (WEAT, Science 356); May et al. 2019 (SEAT, NAACL): the same of sentence vectors.

    Args:
        targets: X and Y: [words, dim] each, as many words in both.
        attributes: A and B: [words, dim] each.
        seed: Of the partitions, where not all are tried.

    Raises:
        ConfigError: A group is empty, or the targets are not as many.
    """
    first, second = targets
    if len(first) != len(second) or not all(map(len, (*targets, *attributes))):
        raise ConfigError(
            f"an association compares two groups of as many words, and they have {len(first)} and {len(second)}, with "
            f"attributes of {len(attributes[0])} and {len(attributes[1])}: give none that is empty, and as many targets"
        )
    return of_nearness(*(nearness(group, attributes) for group in targets), seed=seed)


def nearness(words: Floats, attributes: tuple[Floats, Floats]) -> Floats:
    """s(w) of each word: how much nearer it is to A than to B, [words]."""
    return _mean_cosine(words, attributes[0]) - _mean_cosine(words, attributes[1])


def of_nearness(first: Floats, second: Floats, *, seed: int) -> Association:
    """The same from s(w) of the words of X and of Y, [words] each."""
    effect = float(effect_size(first, second))
    return Association(effect, *_p_value(np.concatenate([first, second]), len(first), seed))


def effect_size(first: Floats, second: Floats) -> Floats:
    """From s(w) of X and Y, [..., words] each, to effect sizes [...]; 0 where all words stand alike."""
    spread = np.concatenate([first, second], axis=-1).std(axis=-1, ddof=1)
    difference = first.mean(axis=-1) - second.mean(axis=-1)
    return np.asarray(np.divide(difference, spread, out=np.zeros_like(spread), where=spread > 0))


def _mean_cosine(words: Floats, attribute: Floats) -> Floats:
    """The mean cosine of each word with an attribute's words."""
    units = [group / np.linalg.norm(group, axis=1, keepdims=True) for group in (words, attribute)]
    return np.asarray((units[0] @ units[1].T).mean(axis=1), dtype=np.float64)


def _p_value(scores: Floats, size: int, seed: int) -> tuple[float, int, bool]:
    """Of a sum over the first `size` scores that is as large by chance."""
    observed = scores[:size].sum()
    if comb(len(scores), size) <= _MOST_EXACT:
        sums = np.array([scores[list(chosen)].sum() for chosen in combinations(range(len(scores)), size)])
        return float((sums > observed + 1e-12).mean()), len(sums), True
    generator = np.random.default_rng(seed)
    sums = np.array([generator.permutation(scores)[:size].sum() for _ in range(_MOST_EXACT)])
    # The observed partition counts as one that was drawn: a p-value is never 0.
    return float((1 + (sums > observed + 1e-12).sum()) / (1 + len(sums))), len(sums), False
