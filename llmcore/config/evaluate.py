"""`evaluate`: one shared job that judges models: those of searches, and any that are named."""

from typing import Literal, NamedTuple

from pydantic import model_validator

from llmcore.config.base import Section, free, identity
from llmcore.config.common import JobSettings, Name, WorkerSettings
from llmcore.config.generation import GenerationSettings
from llmcore.config.harness import HarnessSettings
from llmcore.config.judging import BASELINES, JUDGING, check_baselines, check_metrics, samples_needed
from llmcore.config.labelled import DataReference

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
    baselines: list[Literal["majority", "copy_source", "lead_3", "random_weights", "runner_up", "config"]] | None = (
        identity(
            None,
            description="`majority` (classification): the better of train and test majority class. `copy_source` "
            "(translation): the source. `lead_3` (summarization): the first three sentences or turns. "
            "`random_weights`: the same architecture fine-tuned from random weights with the chosen model's "
            "hyperparameters, seed and steps. `runner_up`: the model that comes next on validation. `config`: the "
            "trial of a search whose `first_points` have `config`: what `finetune` does by itself. Null: all that the "
            "task's kind has; of searches these two as well, where they are.",
        )
    )
    generation: GenerationSettings | None = identity(
        None,
        description="How models that write do so; an answer is never longer than those they have learnt. Null: the "
        "likeliest tokens. Of several answers, `num_samples`, all are judged by pass@k, and the first one by the rest.",
    )
    harness: HarnessSettings | None = identity(
        None,
        description="Tasks of lm-evaluation-harness, by which all models are judged as well; none of them chooses.",
    )
    num_resamples: int = identity(2000, ge=100, description="Bootstrap resamples of an interval.")
    seed: int = identity(0, ge=0, description="Seed of the bootstrap.")
    batch_tokens: int = free(4096, ge=1, description="Tokens a model scores at once.")
    num_scorers: int = free(1, ge=1, description="Processes among which the rows of a split are divided.")
    cpus: float = free(0.5, gt=0, description="CPUs Ray reserves for each of them.")
    gpus: float | Literal["auto"] = free(
        "auto",
        description="GPUs Ray reserves for each of them. `auto` takes one where the cluster has one for each; none "
        "beside a search, whose trials want them.",
    )
    poll_s: float = free(0.5, gt=0, description="Seconds between looks for new trial records.")

    @model_validator(mode="after")
    def _metrics_are_known(self) -> "EvaluateSettings":
        names = [*(self.metrics or ()), *([self.choose_by] if self.choose_by else ())]
        check_metrics(names)
        given = self.generation.samples if self.generation else 1
        if (needed := samples_needed(names)) > given:
            raise ValueError(
                f"pass_at_{needed} is of {needed} answers to a row, and {given} would be written: give "
                f"generation.method=sample and generation.num_samples={needed} or more"
            )
        return self

    @model_validator(mode="after")
    def _batches_are_said_once(self) -> "EvaluateSettings":
        fields = GenerationSettings.model_fields
        if self.generation and self.generation.batch_tokens != fields["batch_tokens"].default:
            raise ValueError(
                f"generation.batch_tokens={self.generation.batch_tokens}: here `batch_tokens` of the evaluation says "
                "it, for all models: leave it out of `generation`"
            )
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

    searches: list[str] = identity(list, description="Names or URLs of `tune` runs, all of whose trials are judged.")
    models: dict[Name, str] = identity(
        dict, description="Further models, by what they are called here: a `finetune` run, or a published model's URL."
    )
    data: DataReference | None = identity(
        None,
        description="`<prepare run>/<labelled set name>`, the URL of an evaluation set, or files to make one of. Null: "
        "what the searches, or else the models, have learnt.",
    )
    follow: bool = free(False, description="Wait for trials until every search says that it is closed.")
    workers: WorkerSettings = free(WorkerSettings, description="Workers of the random-weights baseline.")

    @model_validator(mode="after")
    def _something_is_judged(self) -> "EvaluateConfig":
        if not self.searches and not self.models:
            raise ValueError("there is nothing to judge: give `searches`, or `models`, or both")
        if taken := sorted(set(self.models) & set(BASELINES)):
            raise ValueError(f"models.{taken[0]}: that is what a baseline is called: give the model another name")
        if self.harness and (taken := sorted(set(self.models) & set(self.harness.models))):
            raise ValueError(f"harness.models.{taken[0]}: `models` has that name, too, and is asked in any case")
        return self
