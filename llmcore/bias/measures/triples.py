"""StereoSet: which of three sentences a model finds likelier, one of which means nothing there."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from llmcore.bias.figures import Figure, Figures
from llmcore.bias.intervals import Resampling, Summed
from llmcore.bias.measures.base import Measure, Scores, by_group
from llmcore.bias.preference import Floats, scores_of_targets, target_shares
from llmcore.bias.sets import Triple, read_stereoset
from llmcore.config.bias import BiasSetSettings
from llmcore.storage import Folder

if TYPE_CHECKING:
    from llmcore.bias.scoring import Scorer

__all__ = ["Triples"]

_KINDS = ("stereotypical", "anti_stereotypical", "unrelated")
_PER_CENT = (0.0, 100.0)
_FAIR = {"language_model": None, "stereotype": 50.0, "icat": None}


class Triples(Measure[Triple]):
    """Language model score, stereotype score and ICAT, in per cent."""

    def read(self, folder: Folder, settings: BiasSetSettings) -> list[Triple]:
        """Of `dev.json`, one of its parts."""
        return read_stereoset(folder, part=settings.part)

    def texts(self, example: Triple) -> list[str]:
        """The three sentences."""
        return [getattr(example, kind) for kind in _KINDS]

    def score(self, scorer: "Scorer", examples: Sequence[Triple]) -> list[list[float]]:
        """Of the three sentences; each the mean of its tokens', as the authors have it for GPT-2."""
        of_kind = [scorer.sentences([getattr(one, kind) for one in examples]) for kind in _KINDS]
        return [list(three) for three in zip(*of_kind, strict=True)]

    def figures(self, examples: Sequence[Triple], scores: Scores, resampling: Resampling) -> Figures:
        """Each with its interval over target groups: that is what the scores are means of."""
        return {
            name: Figure(one.value, *one.interval(resampling), one.num, _FAIR[name])
            for name, one in self.summed(examples, scores).items()
        }

    def groups(self, examples: Sequence[Triple], scores: Scores, resampling: Resampling) -> Mapping[str, Figures]:
        """By what kind of group it is: gender, profession, race, religion."""
        return by_group(self, [one.bias_type for one in examples], examples, scores, resampling)

    def summed(self, examples: Sequence[Triple], scores: Scores) -> Mapping[str, Summed]:
        """Of target groups."""
        shares = target_shares(scores, [one.target for one in examples])
        return {
            name: Summed(shares, partial(_score, place=place), _PER_CENT, len(examples))
            for place, name in enumerate(_FAIR)
        }


def _score(sums: Floats, *, place: int) -> Floats:
    return np.asarray(scores_of_targets(sums)[..., place])
