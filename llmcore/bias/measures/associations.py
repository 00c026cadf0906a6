"""WEAT and SEAT: what a model's vectors of words or sentences are near to."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from llmcore.bias.association import effect_size, nearness, of_nearness
from llmcore.bias.figures import Figure, Figures
from llmcore.bias.intervals import Resampling, Summed, interval_of_two
from llmcore.bias.measures.base import Measure, Scores
from llmcore.bias.word_lists import WordLists, read_word_lists
from llmcore.config.bias import BiasSetSettings
from llmcore.storage import Folder

if TYPE_CHECKING:
    from llmcore.bias.scoring import Scorer

__all__ = ["Associations"]

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


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
            first, second = _parted(one, found)
            whole = of_nearness(first, second, seed=resampling.seed)
            low, high = interval_of_two(first, second, effect_size, resampling)
            figures[one.name] = Figure(whole.effect_size, low, high, len(found), 0.0, whole.p_value)
        return figures

    def summed(self, examples: Sequence[WordLists], scores: Scores) -> Mapping[str, Summed]:
        """None: an effect size is no figure of sums over both groups of targets."""
        return {}

    def differences(
        self, examples: Sequence[WordLists], scores: Scores, others: Scores, resampling: Resampling
    ) -> Figures:
        """By test, one model's effect size less another's; targets of X and of Y are drawn, the same for both."""
        figures = {}
        for one, found, other in zip(examples, scores, others, strict=True):
            (x, y), (other_x, other_y) = _parted(one, found), _parted(one, other)
            both = np.stack([x, other_x]), np.stack([y, other_y])

            def less(first: Places, second: Places, both: tuple[Floats, Floats] = both) -> Floats:
                sizes = effect_size(both[0][:, first], both[1][:, second])
                return np.asarray(sizes[0] - sizes[1])

            places = np.arange(len(x)), np.arange(len(y))
            low, high = interval_of_two(*places, less, resampling)
            figures[one.name] = Figure(float(less(*places)), low, high, len(found), 0.0)
        return figures


def _parted(example: WordLists, scores: Sequence[float]) -> tuple[Floats, Floats]:
    """What is said of X, and of Y."""
    first, second = np.split(np.asarray(scores, dtype=np.float64), [len(example.first)])
    return first, second
