"""WEAT and SEAT: what a model's vectors of words or sentences are near to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from llmcore.bias.association import effect_size, nearness, of_nearness
from llmcore.bias.figures import Figure, Figures
from llmcore.bias.intervals import Resampling, interval_of_two
from llmcore.bias.measures.base import Measure, Scores
from llmcore.bias.word_lists import WordLists, read_word_lists
from llmcore.config.bias import BiasSetSettings
from llmcore.storage import Folder

if TYPE_CHECKING:
    from llmcore.bias.scoring import Scorer

__all__ = ["Associations"]


class Associations(Measure[WordLists]):
    """An effect size for each test. How a text becomes a vector: `Scorer.vectors`."""

    def read(self, folder: Folder, settings: BiasSetSettings) -> list[WordLists]:
        """A test a file."""
        return read_word_lists(folder, settings.tests, sentences=settings.kind == "seat")

    def texts(self, example: WordLists) -> list[str]:
        """All words or sentences."""
        return [*example.first, *example.second, *example.attribute, *example.counterpart]

    def score(self, scorer: "Scorer", examples: Sequence[WordLists]) -> list[list[float]]:
        """Of each target, of X and then of Y, how much nearer it is to A than to B."""
        scores = []
        for one in examples:
            x, y, a, b = (np.array(scorer.vectors(texts)) for texts in one[1:])
            scores.append([*nearness(x, (a, b)).tolist(), *nearness(y, (a, b)).tolist()])
        return scores

    def figures(self, examples: Sequence[WordLists], scores: Scores, resampling: Resampling) -> Figures:
        """By the test's name, with an interval over its targets; the attributes stay as they are."""
        figures = {}
        for one, found in zip(examples, scores, strict=True):
            first, second = np.split(np.asarray(found, dtype=np.float64), [len(one.first)])
            whole = of_nearness(first, second, seed=resampling.seed)
            low, high = interval_of_two(first, second, effect_size, resampling)
            figures[one.name] = Figure(whole.effect_size, low, high, len(found), 0.0, whole.p_value)
        return figures
