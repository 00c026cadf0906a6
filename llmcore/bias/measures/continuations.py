"""BOLD: what a model writes of people of several groups, by a classifier that the user names."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from llmcore.bias.bold import Prompt, read_bold
from llmcore.bias.classifier import label_probabilities, the_judge
from llmcore.bias.figures import Figure, Figures
from llmcore.bias.intervals import Resampling, Summed
from llmcore.bias.measures.base import Measure, Scores
from llmcore.config.bias import BiasSetSettings
from llmcore.storage import Folder, content_hash

if TYPE_CHECKING:
    from llmcore.bias.scoring import Scorer

__all__ = ["Continuations"]

Floats = npt.NDArray[np.float64]


class Continuations(Measure[Prompt]):
    """Of each domain the difference between groups in the mean probability of a class.

    Dhamala et al. 2021 (BOLD, FAccT), section 4: what a model goes on with is judged by a classifier, of sentiment or
    toxicity say, and its mean compared between groups. Theirs are their own; here it is any.
    """

    writes: ClassVar[bool] = True

    def read(self, folder: Folder, settings: BiasSetSettings) -> list[Prompt]:
        """Of all domains, or of those that are named."""
        assert settings.classifier is not None and settings.label is not None  # the configuration has been checked
        judge = the_judge(settings.classifier, settings.label)
        return read_bold(
            folder, settings.domains, judge=judge, num_tokens=settings.max_new_tokens, seed=settings.generation_seed
        )

    def texts(self, example: Prompt) -> list[str]:
        """The beginning."""
        return [example.text]

    def score(self, scorer: "Scorer", examples: Sequence[Prompt]) -> list[list[float]]:
        """The probability of the class for each beginning with its continuation, drawn by nucleus sampling, p = 0.9."""
        from llmcore.models.generation.generator import Generator
        from llmcore.models.generation.prompts import num_positions
        from llmcore.models.generation.samples import sampling

        first, texts = examples[0], [one.text for one in examples]  # of one set all are made alike
        generator = Generator(scorer.model, scorer.tokenizer)
        positions = num_positions(scorer.model.config)
        longest = first.num_tokens if positions is None else min(first.num_tokens, positions // 2)
        # Draws are keyed by the beginning itself, so that they hang on nothing that stands beside it.
        keys = [int(content_hash(text)[:8], 16) for text in texts]
        ids = scorer.tokenizer(texts, add_special_tokens=False)["input_ids"]
        generated = generator.generate(ids, sampling(longest, first.seed), rows=keys)
        whole = [text + answer.text for text, [answer] in zip(texts, generated.answers, strict=True)]
        return [[probability] for probability in label_probabilities(first.judge, whole)]

    def figures(self, examples: Sequence[Prompt], scores: Scores, resampling: Resampling) -> Figures:
        """`<domain>_gap`: of two groups the first by name less the second; of more, the largest difference of two."""
        return {
            name: Figure(one.value, *one.interval(resampling), one.num, fair=0.0)
            for name, one in self.summed(examples, scores).items()
        }

    def summed(self, examples: Sequence[Prompt], scores: Scores) -> Mapping[str, Summed]:
        """Of subjects, whose beginnings resemble each other."""
        found = {}
        for domain in dict.fromkeys(one.domain for one in examples):
            at = [place for place, one in enumerate(examples) if one.domain == domain]
            own = [examples[place] for place in at]
            groups = sorted({one.group for one in own})
            if len(groups) < 2:
                continue  # of the others no beginning fits the model
            units = _units([scores[place][0] for place in at], own, groups)
            found[f"{domain}_gap"] = Summed(units, _gap, (-1.0, 1.0), len(own))
        return found

    def groups(self, examples: Sequence[Prompt], scores: Scores, resampling: Resampling) -> Mapping[str, Figures]:
        """The mean probability of the class in each group."""
        found = {}
        for group in dict.fromkeys(one.group for one in examples):
            at = [place for place, one in enumerate(examples) if one.group == group]
            units = _units([scores[place][0] for place in at], [examples[place] for place in at], [group])
            mean = Summed(units, partial(_mean, number=0), (0.0, 1.0), len(at))
            found[group] = {"mean": Figure(mean.value, *mean.interval(resampling), mean.num)}
        return found


def _units(values: Sequence[float], prompts: Sequence[Prompt], groups: Sequence[str]) -> Floats:
    """Of each subject, whose beginnings resemble each other, sum and number of values by group: [subjects, 2 g]."""
    names = dict.fromkeys((one.group, one.subject) for one in prompts)
    subjects = {subject: place for place, subject in enumerate(names)}
    units = np.zeros((len(subjects), 2 * len(groups)))
    for value, one in zip(values, prompts, strict=True):
        place = 2 * groups.index(one.group)
        units[subjects[one.group, one.subject], place : place + 2] += value, 1
    return units


def _mean(sums: Floats, *, number: int) -> Floats:
    """Of a group, from [..., 2 g]; a draw without it has the mean of all, and so no difference."""
    total, count = sums[..., 2 * number], sums[..., 2 * number + 1]
    of_all = sums[..., ::2].sum(axis=-1) / np.maximum(sums[..., 1::2].sum(axis=-1), 1)
    return np.where(count > 0, total / np.maximum(count, 1), of_all)


def _gap(sums: Floats) -> Floats:
    means = np.stack([_mean(sums, number=number) for number in range(sums.shape[-1] // 2)], axis=-1)
    if means.shape[-1] == 2:
        return np.asarray(means[..., 0] - means[..., 1])
    return np.asarray(means.max(axis=-1) - means.min(axis=-1))
