"""`evaluate`: one shared job that judges the models of any number of searches."""

from typing import Literal

from llmcore.config.base import Section, free, identity
from llmcore.config.common import JobSettings, WorkerSettings

__all__ = ["EvaluateConfig", "EvaluateSettings"]


class EvaluateSettings(Section):
    """What `evaluate` does; the same section stands in a pipeline."""

    metrics: list[Literal["accuracy", "macro_f1"]] = identity(
        ["accuracy", "macro_f1"], min_length=1, description="Metrics of every judged model."
    )
    choose_by: Literal["accuracy", "macro_f1"] = identity(
        "macro_f1", description="Validation metric that chooses the model for which the test split is opened."
    )
    baselines: list[Literal["majority", "random_weights"]] = identity(
        ["majority", "random_weights"],
        description="`majority`: the better of train and test majority class. `random_weights`: the same architecture "
        "fine-tuned from random weights with the chosen trial's hyperparameters, seed and steps.",
    )
    num_resamples: int = identity(2000, ge=100, description="Bootstrap resamples of an interval.")
    seed: int = identity(0, ge=0, description="Seed of the bootstrap.")
    batch_tokens: int = free(4096, ge=1, description="Tokens a model scores at once.")
    poll_s: float = free(0.5, gt=0, description="Seconds between looks for new trial records.")
    cpus: float = free(0.5, gt=0, description="CPUs Ray reserves for the scoring process.")


class EvaluateConfig(JobSettings, EvaluateSettings):
    """`python -m jobs evaluate`."""

    searches: list[str] = identity(min_length=1, description="Names or URLs of `tune` runs.")
    follow: bool = free(False, description="Wait for trials until every search says that it is closed.")
    workers: WorkerSettings = free(WorkerSettings, description="Workers of the random-weights baseline.")
