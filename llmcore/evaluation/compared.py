"""By what the trials of a search, and the exports of a training, are compared."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcore.errors import ConfigError
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.metrics import Additive, make_metric
from llmcore.tasks import task_class
from llmcore.tasks.base import Task
from llmcore.tasks.evaluation_set import EvaluationSet

if TYPE_CHECKING:
    from llmcore.config.task import TaskSettings

__all__ = ["LOSS", "Compared", "check_measured", "validation_metrics"]


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
        if name == "loss":
            return LOSS
        metric = make_metric(subject, name)
        return cls(metric.name, metric.higher_is_better)

    @property
    def key(self) -> str:
        """Its name in metrics and reports."""
        return f"validation_{self.metric}"

    def gain(self, value: float, best: float | None) -> float:
        """By how much a value is better than the best so far; of one that is undefined, nothing is gained."""
        if best is None or (math.isnan(best) and not math.isnan(value)):
            return math.inf
        gain = value - best if self.higher_is_better else best - value
        return 0.0 if math.isnan(gain) else gain

    def better(self, metrics: Mapping[str, float], best: float | None) -> float | None:
        """The value among the metrics of a validation, where it is better than the best so far; else None."""
        value = metrics[self.key]
        return value if self.gain(value, best) > 0 else None


def validation_metrics(task: Task[Any, Any], subject: Subject) -> list[Additive]:
    """What is measured of a task at a validation besides the loss.

    Raises:
        ConfigError: One is no metric of the kind, or is no sum over rows, as those over the ranks must be.
    """
    metrics = [(name, make_metric(subject, name)) for name in task.validation_metrics]
    for name, metric in metrics:
        if not isinstance(metric, Additive):
            raise ConfigError(
                f"{name} among the validation_metrics of {task.kind} is not additive, so that the parts of several "
                "ranks do not add up to it: leave it to the evaluation"
            )
    return [metric for _, metric in metrics if isinstance(metric, Additive)]


def check_measured(task: Task[Any, Any], settings: "TaskSettings", labelled: EvaluationSet) -> None:
    """Raises ConfigError where a validation of the task could not be measured, or its models not be compared."""
    subject = Subject.of(labelled)
    validation_metrics(task, subject)
    Compared.of(settings, subject)


LOSS = Compared("loss", higher_is_better=False)
"""By the loss."""
