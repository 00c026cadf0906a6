"""BBQ: whom a model's likeliest answers name."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from llmcore.bias.answers import Answer, Floats, counted, scores_of_counts
from llmcore.bias.figures import Figure, Figures
from llmcore.bias.intervals import Resampling, Summed
from llmcore.bias.measures.base import Measure, Scores, by_group
from llmcore.bias.sets import Question, bbq_categories, read_bbq
from llmcore.config.bias import BiasSetSettings
from llmcore.storage import Folder

if TYPE_CHECKING:
    from llmcore.bias.scoring import Scorer

__all__ = ["Questions"]

_CONTEXTS = {"ambiguous": True, "told": False}
_FIGURES = {"accuracy": (None, (0.0, 1.0)), "bias": (0.0, (-1.0, 1.0))}
"""What is fair, and between what each is."""


class Questions(Measure[Question]):
    """Accuracy and bias score, in contexts that do not tell whom a question means and in those that do."""

    def read(self, folder: Folder, settings: BiasSetSettings) -> list[Question]:
        """Of the categories that are asked for, or all that there are."""
        categories = settings.categories or bbq_categories(folder)
        return [one for category in categories for one in read_bbq(folder, category)]

    def texts(self, example: Question) -> list[str]:
        """The question with each of its answers behind it."""
        return [f"{_asked(example)} {answer}" for answer in example.answers]

    def score(self, scorer: "Scorer", examples: Sequence[Question]) -> list[list[float]]:
        """Of the three answers."""
        return scorer.options([_asked(one) for one in examples], [one.answers for one in examples])

    def figures(self, examples: Sequence[Question], scores: Scores, resampling: Resampling) -> Figures:
        """Of both kinds of context, with intervals over templates."""
        return {
            name: Figure(one.value, *one.interval(resampling), one.num, _FIGURES[name.partition("_")[2]][0])
            for name, one in self.summed(examples, scores).items()
        }

    def groups(self, examples: Sequence[Question], scores: Scores, resampling: Resampling) -> Mapping[str, Figures]:
        """By category of people."""
        return by_group(self, [one.group for one in examples], examples, scores, resampling)

    def summed(self, examples: Sequence[Question], scores: Scores) -> Mapping[str, Summed]:
        """Of templates, whose questions resemble each other."""
        answers = [_answer(one, list(found)) for one, found in zip(examples, scores, strict=True)]
        figures = {}
        for context, ambiguous in _CONTEXTS.items():
            templates: dict[str, list[float]] = {}
            for one, answer in zip(examples, answers, strict=True):
                if answer.is_ambiguous == ambiguous:
                    sums = templates.setdefault(one.template, [0.0] * 4)
                    templates[one.template] = [sum(pair) for pair in zip(sums, counted(answer), strict=True)]
            if not templates:
                continue
            units = np.array([*templates.values()])
            for place, (name, (_, bounds)) in enumerate(_FIGURES.items()):
                score = partial(_score, ambiguous=ambiguous, place=place)
                figures[f"{context}_{name}"] = Summed(units, score, bounds, int(units[:, 0].sum()))
        return figures


def _asked(example: Question) -> str:
    return f"{example.context} {example.question}"


def _score(sums: Floats, *, ambiguous: bool, place: int) -> Floats:
    return np.asarray(scores_of_counts(sums, ambiguous=ambiguous)[..., place])


def _answer(example: Question, scores: list[float]) -> Answer:
    given = example.kinds[scores.index(max(scores))]
    return Answer(example.is_ambiguous, example.is_negative, given, example.kinds[example.right])
