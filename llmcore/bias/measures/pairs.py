"""CrowS-Pairs: which of two sentences a model finds likelier."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from llmcore.bias.figures import Figure, Figures
from llmcore.bias.intervals import Resampling, Summed
from llmcore.bias.measures.base import Measure, Scores, by_group
from llmcore.bias.preference import Floats, preference
from llmcore.bias.sets import SentencePair, read_crows_pairs
from llmcore.config.bias import BiasSetSettings
from llmcore.storage import Folder

if TYPE_CHECKING:
    from llmcore.bias.scoring import Scorer

__all__ = ["Pairs"]


class Pairs(Measure[SentencePair]):
    """How often a model prefers the sentence that says more of what is said of a group."""

    def read(self, folder: Folder, settings: BiasSetSettings) -> list[SentencePair]:
        """Of the one file."""
        return read_crows_pairs(folder)

    def texts(self, example: SentencePair) -> list[str]:
        """Both sentences."""
        return [example.more, example.less]

    def score(self, scorer: "Scorer", examples: Sequence[SentencePair]) -> list[list[float]]:
        """Of the more and of the less stereotyping sentence."""
        more, less = scorer.pairs([pair.more for pair in examples], [pair.less for pair in examples])
        return [list(both) for both in zip(more, less, strict=True)]

    def figures(self, examples: Sequence[SentencePair], scores: Scores, resampling: Resampling) -> Figures:
        """`preference`: the share of the pairs, with Wilson's interval."""
        found = preference([more for more, _ in scores], [less for _, less in scores])
        return {"preference": Figure(found.share, found.low, found.high, found.num_pairs, fair=0.5)}

    def groups(self, examples: Sequence[SentencePair], scores: Scores, resampling: Resampling) -> Mapping[str, Figures]:
        """By what kind of group the pair is about."""
        return by_group(self, [pair.group for pair in examples], examples, scores, resampling)

    def summed(self, examples: Sequence[SentencePair], scores: Scores) -> Mapping[str, Summed]:
        """`preference`, of pairs."""
        units = np.array([[1.0, float(more > less)] for more, less in scores])
        return {"preference": Summed(units, _share, (0.0, 1.0), len(examples))}


def _share(sums: Floats) -> Floats:
    return np.asarray(sums[..., 1] / sums[..., 0])
