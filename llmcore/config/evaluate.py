"""`evaluate`: one shared job that judges models: those of searches, and any that are named."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from pydantic import model_validator

from llmcore.config.base import Section, free, identity
from llmcore.config.bias import BiasSettings
from llmcore.config.common import LONGEST_NAME, JobSettings, Name, WorkerSettings
from llmcore.config.fairness import FairnessChecks
from llmcore.config.generation import GenerationSettings
from llmcore.config.harness import HarnessSettings
from llmcore.config.judging import BASELINES, JUDGING, check_baselines, check_metrics, samples_needed
from llmcore.config.labelled import DataReference

__all__ = ["OF_TWIN", "EvaluateConfig", "JudgedBy", "JudgedSettings"]


OF_TWIN = ".random-weights"
"""Behind the name of an evaluation: the run of the model from random weights."""


class JudgedBy(NamedTuple):
    """What a kind of task is judged by: the configuration's, or the kind's own where it does not say."""

    metrics: tuple[str, ...]
    choose_by: str
    baselines: tuple[str, ...]


class JudgedSettings(Section):
    """Models that are judged on one labelled set, and what they are judged by."""

    searches: list[str] = identity(list, description="Names or URLs of `tune` runs, all of whose trials are judged.")
    models: dict[Name, str] = identity(
        dict, description="Further models, by what they are called here: a `finetune` run, or a published model's URL."
    )
    data: DataReference | None = identity(
        None,
        description="`<prepare run>/<labelled set name>`, the URL of an evaluation set, or files to make one of. Null: "
        "what the searches, or else the models, have learnt.",
    )
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
    fairness: FairnessChecks | None = identity(
        None, description="How models treat groups of people (docs/bias.md). Null: not measured."
    )

    @model_validator(mode="after")
    def _metrics_are_known(self) -> "JudgedSettings":
        names = [*(self.metrics or ()), *([self.choose_by] if self.choose_by else ())]
        check_metrics(names)
        given = self.generation.samples if self.generation else 1
        if (needed := samples_needed(names)) > given:
            raise ValueError(
                f"pass_at_{needed} is of {needed} answers to a row, and {given} would be written: give "
                f"generation.method=sample and generation.num_samples={needed} or more"
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


class EvaluateConfig(JobSettings, JudgedSettings):
    """`python -m jobs evaluate`."""

    sets: dict[Name, JudgedSettings] = free(
        dict,
        description="Several labelled sets in one evaluation, instead of `searches` and `models`: what is judged on "
        "each, and by what. Each is a run of its own, `<name>.<set>`, with its own chosen model.",
    )
    harness: HarnessSettings | None = identity(
        None,
        description="Tasks of lm-evaluation-harness, by which all models are judged as well; none of them chooses.",
    )
    bias: BiasSettings | None = identity(
        None,
        description="Published sets by which the bias of all language models among them is measured (docs/bias.md); "
        "none of it chooses. With models of its own it may be all that is asked for.",
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
    follow: bool = free(False, description="Wait for trials until every search says that it is closed.")
    workers: WorkerSettings = free(WorkerSettings, description="Workers of the random-weights baseline.")

    def of_set(self, name: str) -> "EvaluateConfig":
        """The evaluation of one of the sets, as a run of its own."""
        shared = {field: getattr(self, field) for field in type(self).model_fields}
        judged = {field: getattr(self.sets[name], field) for field in JudgedSettings.model_fields}
        return type(self).model_validate(shared | judged | {"name": f"{self.name}.{name}", "sets": {}})

    @property
    def measures_alone(self) -> bool:
        """Whether nothing is judged: the bias of further models is measured, and that is all."""
        judged = self.searches or self.models or self.sets
        return not judged and self.bias is not None and bool(self.bias.models)

    def further_runs(self) -> Iterator[str]:
        """Names of the runs that it makes besides its own: one a set, and of the models from random weights."""
        sets = [f"{self.name}.{name}" for name in self.sets]
        yield from sets
        if not self.measures_alone:
            yield from (f"{run}{OF_TWIN}" for run in sets or [self.name])

    @model_validator(mode="after")
    def _its_runs_can_have_their_names(self) -> "EvaluateConfig":
        if long := [run for run in self.further_runs() if len(run) > LONGEST_NAME]:
            raise ValueError(f"name={self.name!r} makes the run {long[0]}, a name of over {LONGEST_NAME} characters")
        return self

    @model_validator(mode="after")
    def _something_is_judged(self) -> "EvaluateConfig":
        if self.sets:
            given = [
                name for name in JudgedSettings.model_fields if name in self.model_fields_set and getattr(self, name)
            ]
            if given:
                raise ValueError(
                    f"{given[0]}= is said for each of `sets`: give sets.{next(iter(self.sets))}.{given[0]}"
                )
            if empty := [name for name, one in self.sets.items() if not one.searches and not one.models]:
                raise ValueError(f"sets.{empty[0]}: there is nothing to judge: give `searches`, or `models`, or both")
        elif self.measures_alone:
            if told := self._said_of_judging():
                raise ValueError(f"{told}= is said of models that are judged, and there are none: leave it out")
        elif not self.searches and not self.models:
            raise ValueError(
                "there is nothing to judge: give `searches`, or `models`, or both; or `sets` of them; or `bias.models`"
            )
        for place, judged in [("", self), *((f"sets.{name}.", one) for name, one in self.sets.items())]:
            if taken := sorted(set(judged.models) & set(BASELINES)):
                raise ValueError(f"{place}models.{taken[0]}: that is what a baseline is called: give it another name")
            if self.harness and (taken := sorted(set(judged.models) & set(self.harness.models))):
                raise ValueError(f"harness.models.{taken[0]}: `models` has that name, too, and is asked in any case")
            if self.bias and (taken := sorted(set(judged.models) & set(self.bias.models))):
                raise ValueError(f"bias.models.{taken[0]}: `models` has that name, too, and is measured in any case")
        return self

    def _said_of_judging(self) -> str | None:
        """A key that has no meaning where nothing is judged."""
        keys = (*JudgedSettings.model_fields, "harness")
        return next((key for key in keys if getattr(self, key)), None)

    @model_validator(mode="after")
    def _batches_are_said_once(self) -> "EvaluateConfig":
        fields = GenerationSettings.model_fields
        for generation in (self.generation, *(one.generation for one in self.sets.values())):
            if generation is None or generation.batch_tokens == fields["batch_tokens"].default:
                continue
            raise ValueError(
                f"generation.batch_tokens={generation.batch_tokens}: here `batch_tokens` of the evaluation says "
                "it, for all models: leave it out of `generation`"
            )
        return self
