"""`pipeline`: jobs as the stages of one graph, in one file; and `report`, its page."""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any

from pydantic import ValidationError

from llmcore.config.base import free, identity
from llmcore.config.common import JobSettings, Name
from llmcore.config.document import Path, dotted
from llmcore.config.evaluate import EvaluateConfig, JudgedSettings
from llmcore.config.finetune import FinetuneConfig, FinetuneSettings
from llmcore.config.judging import JUDGING
from llmcore.config.loading import validate_data
from llmcore.config.mistakes import describe
from llmcore.config.prepare import PrepareConfig
from llmcore.config.pretrain import PretrainConfig, check_pairs
from llmcore.config.promote import PromoteConfig
from llmcore.config.tune import TuneConfig
from llmcore.errors import ConfigError

__all__ = ["REPORT", "STAGE_JOBS", "PipelineConfig", "ReportConfig"]

STAGE_JOBS: dict[str, type[JobSettings]] = {
    "prepare": PrepareConfig,
    "pretrain": PretrainConfig,
    "finetune": FinetuneConfig,
    "tune": TuneConfig,
    "evaluate": EvaluateConfig,
    "promote": PromoteConfig,
}
"""What a stage may do, in the order in which a pipeline usually does it."""
REPORT = "report"
"""The last stage, which each pipeline has without saying so."""

_REFERENCE = re.compile(r"(\$?)\$\{([^{}]*)\}")
"""`${stage}`; and `$${x}`, which is `${x}` and names nothing."""
_SAID_FOR_ALL = ("name", "storage", "cluster")
_MAY_NAME = {
    "tokens": ("prepare",),
    "tokenizer": ("prepare",),
    "base": ("pretrain", "finetune"),
    "data": ("prepare",),
    "validation_sets": ("prepare",),
    "first_from": ("tune",),
    "searches": ("tune",),
    "models": ("finetune",),
    "harness": ("pretrain", "finetune"),
    "evaluation": ("evaluate",),
    "bias": ("pretrain", "finetune"),
}
"""The jobs whose runs can be named under a key, the outer one first; what is not here may name any."""
_SETS = "sets"


class ReportConfig(JobSettings):
    """`python -m jobs report`: writes `report.html` of a pipeline from its runs' records."""

    pipeline: str = identity(description="Name of the pipeline whose runs are reported.")


class PipelineConfig(JobSettings):
    """`python -m jobs pipeline`: stages, each of which is the configuration of a job.

    What names a run may name a stage instead: `${books}` is the run of the stage `books`, `<pipeline>.books`, and the
    stage that says so begins when that one has ended. `$${books}` is the text `${books}`.
    """

    stages: dict[Name, dict[str, Any]] = free(
        min_length=1,
        description="By name: `job` (prepare, pretrain, finetune, tune, evaluate or promote), and the keys of that "
        "command but for name, storage and cluster. A change means what it means for the stage's own run.",
    )

    def mistakes(self) -> Iterator[tuple[Path, str]]:
        """What is wrong with the stages: each as its own command would say it, then what joins them."""
        found = list(self._mistakes_of_stages())
        yield from found
        if not found:
            yield from self._mistakes_between()

    @cached_property
    def jobs(self) -> dict[str, JobSettings]:
        """The configuration of each stage's own job, an earlier stage first.

        Raises:
            ConfigError: A stage cannot be one.
        """
        if found := list(self.mistakes()):
            raise ConfigError("\n".join(f"{dotted(place)}: {message}" for place, message in found))
        order = TopologicalSorter(self._named).static_order()
        return {stage: validate_data(self._job_of(stage), self._job_data(stage)) for stage in order}

    def job(self, stage: str) -> str:
        """What a stage does."""
        return str(self.stages[stage]["job"])

    def run_of(self, stage: str) -> str:
        """The name of a stage's run."""
        return f"{self.name}.{stage}"

    def needs(self, stage: str) -> frozenset[str]:
        """The stages that a stage names."""
        return frozenset(self._named[stage])

    def beside(self, stage: str) -> frozenset[str]:
        """Of these, the ones beside which it runs: the searches that an evaluation follows."""
        config = self.jobs[stage]
        follows = isinstance(config, EvaluateConfig) and config.follow
        return frozenset(one for one in self._named[stage] if follows and self.job(one) == "tune")

    def begins_after(self) -> dict[str, set[str]]:
        """For each stage those that have ended when it begins; beside a search it waits for what that one waits for."""
        waits: dict[str, set[str]] = {}
        for stage in self.jobs:
            beside = self.beside(stage)
            waits[stage] = set(self.needs(stage) - beside).union(*(waits[one] for one in beside))
        return waits

    def report_config(self) -> ReportConfig:
        """The last stage."""
        return ReportConfig(name=self.run_of(REPORT), storage=self.storage, cluster=self.cluster, pipeline=self.name)

    @cached_property
    def _named(self) -> dict[str, set[str]]:
        return {stage: {name for _, name in _references(given)} for stage, given in self.stages.items()}

    def _job_of(self, stage: str) -> type[JobSettings]:
        return STAGE_JOBS[self.job(stage)]

    def _job_data(self, stage: str) -> dict[str, Any]:
        """A stage as its command would be given it."""
        common = self.model_dump(mode="json", include={"storage", "cluster"})
        given = {key: value for key, value in self.stages[stage].items() if key != "job"}
        filled: dict[str, Any] = _filled(given, {name: self.run_of(name) for name in self.stages})
        return {"name": self.run_of(stage), **common, **filled}

    def _mistakes_of_stages(self) -> Iterator[tuple[Path, str]]:
        for stage, given in self.stages.items():
            place = ("stages", stage)
            if stage == REPORT:
                yield place, "each pipeline ends with a report: give the stage another name"
            elif not _is_job(given.get("job")):
                told = repr(given["job"]) if "job" in given else "no job"
                yield (*place, "job"), f"got {told}; expected one of {', '.join(STAGE_JOBS)}"
            elif said := [key for key in _SAID_FOR_ALL if key in given]:
                yield (*place, said[0]), f"the pipeline says it for all stages: leave stages.{stage}.{said[0]} out"
            elif wrong := list(self._wrong_references(stage)):
                yield from wrong
            else:
                yield from self._mistakes_in(stage)
        try:
            TopologicalSorter(self._named).prepare()
        except CycleError as error:
            yield ("stages",), f"{' needs '.join(reversed(error.args[1]))}: no stage can be the first of these"

    def _wrong_references(self, stage: str) -> Iterator[tuple[Path, str]]:
        for path, name in _references(self.stages[stage]):
            place = ("stages", stage, *path)
            if name not in self.stages:
                near = get_close_matches(name, self.stages, n=1)
                hint = f"; did you mean ${{{near[0]}}}?" if near else ""
                yield place, f"${{{name}}} is no stage; there are {', '.join(self.stages)}{hint}"
                continue
            keys = path[2:] if path[0] == _SETS else path  # a set has a name of its own
            key = next((part for part in keys if part in _MAY_NAME), None)
            job, fitting = self.stages[name].get("job"), _MAY_NAME.get(str(key), tuple(STAGE_JOBS))
            if _is_job(job) and job not in fitting:
                yield place, f"${{{name}}} is a {job} stage; expected one of {' or '.join(fitting)}"

    def _mistakes_in(self, stage: str) -> Iterator[tuple[Path, str]]:
        cls, data, place = self._job_of(stage), self._job_data(stage), ("stages", stage)
        try:
            validate_data(cls, data)
        except ValidationError as error:
            for inner, message in describe(cls, data, error.errors(include_url=False), prefix=place):
                yield (*place, *inner), message

    def _mistakes_between(self) -> Iterator[tuple[Path, str]]:
        """What would come to light when a stage begins, hours later."""
        jobs = {stage: validate_data(self._job_of(stage), self._job_data(stage)) for stage in self.stages}
        stages = {self.run_of(stage): config for stage, config in jobs.items()}
        runs: dict[str, str] = {self.run_of(REPORT): REPORT}
        for stage, config in jobs.items():
            place = ("stages", stage)
            for run in _runs_of(config):
                if runs.setdefault(run, stage) != stage:
                    yield place, f"it makes the run {run}, as {runs[run]} does: give one of them another name"
            try:
                if isinstance(config, PretrainConfig) and isinstance(
                    made := stages.get(str(config.tokens)), PrepareConfig
                ):
                    check_pairs(made, config.next_sentence)
                elif isinstance(config, FinetuneConfig | TuneConfig) and isinstance(config.data, str):
                    _check_labelled_set(config.data, stages)
                elif isinstance(config, EvaluateConfig):
                    _check_classifiers(config, stages)
                    for judged in (config, *config.sets.values()):
                        _check_metrics(judged, stages)
                        if isinstance(judged.data, str):
                            _check_labelled_set(judged.data, stages)
            except ValueError as error:
                yield place, str(error)


def _check_labelled_set(data: str, stages: Mapping[str, JobSettings]) -> None:
    run, _, name = data.rpartition("/") if data not in stages else (data, "", "")
    made = stages.get(run)
    if isinstance(made, PrepareConfig) and name not in (names := [one.name for one in made.labelled_sets]):
        raise ValueError(f"data={data!r}: the stage makes the labelled sets {names}")


def _check_metrics(judged: JudgedSettings, stages: Mapping[str, JobSettings]) -> None:
    for run in (*judged.searches, *judged.models.values()):
        made = stages.get(run)
        settings = made.finetune if isinstance(made, TuneConfig) else made
        if isinstance(settings, FinetuneSettings) and (kind := settings.task.kind) in JUDGING:
            judged.judged_by(kind)


def _check_classifiers(config: EvaluateConfig, stages: Mapping[str, JobSettings]) -> None:
    for name, one in (config.bias.sets if config.bias else {}).items():
        made = stages.get(str(one.classifier))
        task = made.task if isinstance(made, FinetuneConfig) else None
        is_one = task is not None and task.kind == "text_classification" and task.answer != "text"
        if made is not None and not is_one:
            raise ValueError(
                f"bias.sets.{name}.classifier={one.classifier!r} makes no classifier: name one that fine-tunes it, "
                "with task.kind=text_classification and task.answer=head"
            )


def _runs_of(config: JobSettings) -> Iterator[str]:
    """The runs that a stage makes."""
    yield config.name
    if isinstance(config, EvaluateConfig):
        yield from config.further_runs()


def _is_job(job: Any) -> bool:
    return isinstance(job, str) and job in STAGE_JOBS


def _references(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Each stage that is named in plain data, and where."""
    if isinstance(value, str):
        yield from ((path, name) for literal, name in _REFERENCE.findall(value) if not literal)
    elif isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            yield from _references(inner, (*path, key))


def _filled(value: Any, runs: Mapping[str, str]) -> Any:
    """Plain data with the runs of stages in place of their names."""
    if isinstance(value, str):
        return _REFERENCE.sub(lambda found: found[0][1:] if found[1] else runs.get(found[2], found[0]), value)
    if isinstance(value, dict):
        return {key: _filled(inner, runs) for key, inner in value.items()}
    return [_filled(inner, runs) for inner in value] if isinstance(value, list) else value
