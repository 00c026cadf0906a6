"""By what the trials of a search, and the exports of a training, are compared."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.metrics import make_metric
from llmcore.tasks import task_class

if TYPE_CHECKING:
    from llmcore.config.task import TaskSettings

__all__ = ["Compared"]


@dataclass(frozen=True)
class Compared:
    """A metric of a validation.

    Attributes:
        metric: Its name.
        higher_is_better: Whether the higher one is the better one.
    """

    metric: str
    higher_is_better: bool

    @classmethod
    def of(cls, settings: "TaskSettings", subject: Subject) -> "Compared":
        """What a configuration compares by: what it names, or the task's own. Raises ConfigError for no metric."""
        name = task_class(settings.kind).metric_of(settings)
        higher = name != "loss" and make_metric(subject, name).higher_is_better
        return cls(name, higher)

    @property
    def key(self) -> str:
        """Its name in metrics and reports."""
        return f"validation_{self.metric}"

    def is_better(self, value: float, best: float | None) -> bool:
        """Whether a value is better than the best so far."""
        return best is None or (value > best if self.higher_is_better else value < best)
