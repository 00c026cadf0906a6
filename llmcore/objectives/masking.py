"""Masks: which tokens are to be guessed, and what stands in their place. A function of seed, position and place."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llmcore.config.masking import MaskingSettings
from llmcore.corpus.hashing import GOLDEN, mix64
from llmcore.objectives.chance import numbers, row_keys, uniform

__all__ = ["Masked", "masked"]

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Masked(NamedTuple):
    """Rows as the model sees them, int64 [rows, length], and where its targets are, bool of the same shape."""

    tokens: Int64s
    targets: Bools


def masked(
    tokens: Int64s,
    real: Bools,
    positions: Int64s,
    settings: MaskingSettings,
    *,
    seed: int,
    mask_id: int,
    random_ids: Int64s,
    word_starts: Bools | None = None,
) -> Masked:
    """Mask rows; each token by chance, or each word.

    Args:
        tokens: int64 [rows, length].
        real: bool [rows, length]: tokens that may be targets; the others are padding and ends of documents.
        positions: int64 [rows]: of the rows in a run. A row of another epoch has another position, so other masks; and
            who reads it is no part of it.
        settings: how many, and what becomes of them.
        seed: of the run.
        mask_id: the mask token.
        random_ids: int64 [ids]: what a random token may be.
        word_starts: bool [vocabulary]: whether a token begins a word, for whole words.
    """
    drawn = numbers(row_keys(seed, positions), tokens.shape[1])
    chance = uniform(drawn)
    if settings.whole_words:
        assert word_starts is not None
        # The chance of a word's first token is that of all its tokens; whatever may not be a target ends a word.
        begins = word_starts[tokens] | ~real
        begins[:, 0] = True
        begins[:, 1:] |= ~real[:, :-1]
        first = np.maximum.accumulate(np.where(begins, np.arange(tokens.shape[1]), 0), axis=1)
        chance = np.take_along_axis(chance, first, axis=1)
    targets = real & (chance < settings.share)
    fate = uniform(mix64(drawn ^ GOLDEN))
    seen = np.where(targets & (fate < settings.replaced), mask_id, tokens)
    others = random_ids[(mix64(drawn + GOLDEN) % np.uint64(len(random_ids))).astype(np.int64)]
    at_random = targets & (fate >= settings.replaced) & (fate < settings.replaced + settings.random)
    return Masked(np.where(at_random, others, seen), targets)
