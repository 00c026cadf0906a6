"""WinoBias and Winogender: whom a model takes a pronoun to mean."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llmcore.bias.coreference import accuracy_gap
from llmcore.bias.figures import Figure, Figures, share
from llmcore.bias.intervals import Resampling
from llmcore.bias.measures.base import Measure, Scores, by_group
from llmcore.bias.sets import Coreference, read_winobias, read_winogender
from llmcore.config.bias import BiasSetSettings
from llmcore.storage import Folder

if TYPE_CHECKING:
    from llmcore.bias.scoring import Scorer

__all__ = ["Pronouns", "Winobias", "Winogender"]


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


def _asked(example: Coreference) -> str:
    return f'{example.sentence} "{example.pronoun.capitalize()}" refers to'
