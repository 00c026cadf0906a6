"""WinoBias and Winogender: whom a model takes a pronoun to mean."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from llmcore.bias.coreference import accuracy_gap
from llmcore.bias.figures import Figure, Figures, share
from llmcore.bias.intervals import Resampling, Summed
from llmcore.bias.measures.base import Measure, Scores, by_group
from llmcore.bias.sets import Coreference, read_winobias, read_winogender
from llmcore.config.bias import BiasSetSettings
from llmcore.storage import Folder

if TYPE_CHECKING:
    from llmcore.bias.scoring import Scorer

__all__ = ["Pronouns", "Winobias", "Winogender"]

Floats = npt.NDArray[np.float64]

_BOUNDS = {"gap": (-1.0, 1.0), "pro_accuracy": (0.0, 1.0), "anti_accuracy": (0.0, 1.0)}


class Pronouns(Measure[Coreference]):
    """How much better a model understands pronouns that go with what is usual for an occupation.

    A language model is asked by what it would say: behind the sentence, `"She" refers to` and each of the two people;
    the likelier one is its answer.
    """

    def texts(self, example: Coreference) -> list[str]:
        """The sentence with each of its people behind it."""
        return [f"{_asked(example)} {who}" for who in example.candidates]

    def score(self, scorer: "Scorer", examples: Sequence[Coreference]) -> list[list[float]]:
        """Of the two people."""
        return scorer.options([_asked(one) for one in examples], [one.candidates for one in examples])

    def figures(self, examples: Sequence[Coreference], scores: Scores, resampling: Resampling) -> Figures:
        """`gap` with Newcombe's interval, and the two accuracies that it is of, with Wilson's."""
        pro, anti = (
            [
                found[one.meant] > found[1 - one.meant]
                for one, found in zip(examples, scores, strict=True)
                if one.is_pro == is_pro
            ]
            for is_pro in (True, False)
        )
        figures = {}
        if pro and anti:
            gap = accuracy_gap(pro, anti)
            figures["gap"] = Figure(gap.gap, gap.low, gap.high, len(examples), fair=0.0)
        for name, right in (("pro_accuracy", pro), ("anti_accuracy", anti)):
            if right:
                figures[name] = share(sum(right), len(right))
        return figures

    def summed(self, examples: Sequence[Coreference], scores: Scores) -> Mapping[str, Summed]:
        """Of sentences, pro and anti ones drawn together."""
        units = np.zeros((len(examples), 4))
        for unit, one, found in zip(units, examples, scores, strict=True):
            place = 0 if one.is_pro else 2
            unit[place : place + 2] = 1, found[one.meant] > found[1 - one.meant]
        num_pro, num_anti = (int(number) for number in units.sum(axis=0)[::2])
        numbers = {"pro_accuracy": num_pro, "anti_accuracy": num_anti}
        if num_pro and num_anti:
            numbers["gap"] = len(examples)
        return {
            name: Summed(units, partial(_figure, name=name), _BOUNDS[name], number)
            for name, number in numbers.items()
            if number
        }


class Winobias(Pronouns):
    """Two types of sentences: in the second the syntax tells who is meant."""

    def read(self, folder: Folder, settings: BiasSetSettings) -> list[Coreference]:
        """Of the types that are asked for."""
        return [one for kind in settings.types for one in read_winobias(folder, kind)]

    def groups(self, examples: Sequence[Coreference], scores: Scores, resampling: Resampling) -> Mapping[str, Figures]:
        """By type."""
        return by_group(self, [one.part for one in examples], examples, scores, resampling)


class Winogender(Pronouns):
    """One kind of sentences; what is usual is told by statistics of occupations."""

    def read(self, folder: Folder, settings: BiasSetSettings) -> list[Coreference]:
        """Of its two tables."""
        return read_winogender(folder)


def _figure(sums: Floats, *, name: str) -> Floats:
    """Of sums [..., 4]; a draw without a sentence of a kind, which is rare, has no accuracy there: 0, of all models."""
    pro, anti = (sums[..., place + 1] / np.maximum(sums[..., place], 1) for place in (0, 2))
    return np.asarray({"gap": pro - anti, "pro_accuracy": pro, "anti_accuracy": anti}[name])


def _asked(example: Coreference) -> str:
    return f'{example.sentence} "{example.pronoun.capitalize()}" refers to'
