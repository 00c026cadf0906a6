"""`evaluate`: one shared job that judges the models of any number of searches."""

from typing import Literal, NamedTuple

from pydantic import model_validator

from llmcore.config.base import Section, free, identity
from llmcore.config.common import JobSettings, WorkerSettings
from llmcore.config.judging import JUDGING, check_baselines, check_metrics

__all__ = ["EvaluateConfig", "EvaluateSettings", "JudgedBy"]


class JudgedBy(NamedTuple):
    """What a kind of task is judged by: the configuration's, or the kind's own where it does not say."""

    metrics: tuple[str, ...]
    choose_by: str
    baselines: tuple[str, ...]


class EvaluateSettings(Section):
    """What `evaluate` does; the same section stands in a pipeline."""

    metrics: list[str] | None = identity(
        None,
        min_length=1,
        description="Metrics of every judged model (docs/metrics.md). Null: those of the task's kind.",
    )
    choose_by: str | None = identity(
        None,
        description="Validation metric that chooses the model for which the test split is opened. Null: that of the "
        "task's kind.",
    )
    baselines: list[Literal["majority", "copy_source", "lead_3", "random_weights"]] | None = identity(
        None,
        description="`majority` (classification): the better of train and test majority class. `copy_source` "
        "(translation): the source. `lead_3` (summarization): the first three sentences or turns. `random_weights`: "
        "the same architecture fine-tuned from random weights with the chosen trial's hyperparameters, seed and steps. "
        "Null: all that the task's kind has.",
    )
    num_resamples: int = identity(2000, ge=100, description="Bootstrap resamples of an interval.")
    seed: int = identity(0, ge=0, description="Seed of the bootstrap.")
    batch_tokens: int = free(4096, ge=1, description="Tokens a model scores at once.")
    poll_s: float = free(0.5, gt=0, description="Seconds between looks for new trial records.")
    cpus: float = free(0.5, gt=0, description="CPUs Ray reserves for the scoring process.")

    @model_validator(mode="after")
    def _metrics_are_known(self) -> "EvaluateSettings":
        check_metrics([*(self.metrics or ()), *([self.choose_by] if self.choose_by else ())])
        return self

    def judged_by(self, kind: str) -> JudgedBy:
        """What models of this kind of task are judged by.

        Raises:
            ValueError: A metric or a baseline is none of this kind; the message lists what there is.
        """
        own = JUDGING.get(kind)
        if own is None and (self.metrics is None or self.choose_by is None):
            raise ValueError(f"kind {kind!r} has no metrics of its own: give `metrics` and `choose_by`")
        metrics = tuple(self.metrics) if self.metrics is not None else own.default if own else ()
        choose_by = self.choose_by or (own.choose_by if own else "")
        check_metrics((*metrics, choose_by), kind)
        baselines = (
            tuple(self.baselines) if self.baselines is not None else own.baselines if own else ("random_weights",)
        )
        check_baselines(baselines, kind)
        return JudgedBy(metrics, choose_by, baselines)


class EvaluateConfig(JobSettings, EvaluateSettings):
    """`python -m jobs evaluate`."""

    searches: list[str] = identity(min_length=1, description="Names or URLs of `tune` runs.")
    follow: bool = free(False, description="Wait for trials until every search says that it is closed.")
    workers: WorkerSettings = free(WorkerSettings, description="Workers of the random-weights baseline.")
