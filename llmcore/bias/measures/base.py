"""What a measure is: it reads a published set, has a model score its examples, and makes figures of the scores."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from llmcore.bias.figures import Figure, Figures
from llmcore.bias.intervals import Resampling, Summed, interval_of_difference
from llmcore.config.bias import BiasSetSettings
from llmcore.storage import Folder

if TYPE_CHECKING:
    from llmcore.bias.scoring import Scorer

__all__ = ["Measure", "Scores", "by_group"]

Example = TypeVar("Example", bound=tuple[Any, ...])
Scores = Sequence[Sequence[float]]
"""Of each example, what a model says of it: all that figures are made of."""


class Measure(ABC, Generic[Example]):
    """A kind of published set. Scoring needs a model, and is kept; figures are arithmetic, and are made anew."""

    version = 1
    """Raised when the same model would score the same example in another way."""
    writes: ClassVar[bool] = False
    """Whether a model has to write: a masked one does not."""

    @abstractmethod
    def read(self, folder: Folder, settings: BiasSetSettings) -> list[Example]:
        """The examples, in the order of the files. Raises CorpusError where a file is missing, or is not as it was."""

    @abstractmethod
    def texts(self, example: Example) -> list[str]:
        """The longest texts of an example that a model reads at once: what it must have positions for."""

    @abstractmethod
    def score(self, scorer: "Scorer", examples: Sequence[Example]) -> list[list[float]]:
        """What a model says of each example."""

    @abstractmethod
    def figures(self, examples: Sequence[Example], scores: Scores, resampling: Resampling) -> Figures:
        """Of all examples together, one or more; a figure that they do not define is left out."""

    def groups(self, examples: Sequence[Example], scores: Scores, resampling: Resampling) -> Mapping[str, Figures]:
        """The same by group of people, where a set has several of them."""
        return {}

    @abstractmethod
    def summed(self, examples: Sequence[Example], scores: Scores) -> Mapping[str, Summed]:
        """The figures by name as sums over what is drawn: rows, or what rows of one kind have in common."""

    def differences(
        self, examples: Sequence[Example], scores: Scores, others: Scores, resampling: Resampling
    ) -> Figures:
        """By figure, one model's less another's, both asked the same examples; 0 is fair: that they are alike."""
        ours, theirs = self.summed(examples, scores), self.summed(examples, others)
        return {name: _difference(one, theirs[name], resampling) for name, one in ours.items() if name in theirs}


def _difference(first: Summed, second: Summed, resampling: Resampling) -> Figure:
    low, high = interval_of_difference(first, second, resampling)
    return Figure(first.value - second.value, low, high, first.num, fair=0.0)


def by_group(
    measure: Measure[Example],
    names: Sequence[str],
    examples: Sequence[Example],
    scores: Scores,
    resampling: Resampling,
) -> dict[str, Figures]:
    """A measure's figures of the examples of each group, in the order in which they come; `names`: of each example."""
    found = {}
    for name in dict.fromkeys(names):
        at = [place for place, group in enumerate(names) if group == name]
        found[name] = measure.figures([examples[one] for one in at], [scores[one] for one in at], resampling)
    return found
