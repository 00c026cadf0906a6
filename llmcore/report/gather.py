"""From the records of runs to a `PipelineReport`: what is absent stays empty, what is torn is named."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from llmcore.config.pipeline import STAGE_JOBS
from llmcore.records import RunStatus, attempt_folder, attempt_numbers, list_runs, run_folder
from llmcore.report.closer import closer_look
from llmcore.report.curves import RunCurves, read_curves
from llmcore.report.gather_searches import METRIC, search_report
from llmcore.report.gather_stages import stage_report
from llmcore.report.model import (
    TWIN,
    Curve,
    EvaluationReport,
    PipelineReport,
    PretrainReport,
    Sample,
    SearchReport,
    StageReport,
)
from llmcore.report.passport import DataPassport, passport_of
from llmcore.report.reading import Records, leaves
from llmcore.report.recorded import (
    BiasRecord,
    CostRecord,
    EvaluationRecord,
    PassportRecord,
    PretrainRecord,
)
from llmcore.report.standing import judged_models
from llmcore.storage import Folder

__all__ = ["Reader", "gather"]

_FACTS = (
    "num_parameters",
    "num_steps",
    "tokens_seen",
    "rows_consumed",
    "world_size",
    "zero_stage",
    "precision",
    "tokens_per_s",
    "data_wait_fraction",
)
_HELD_OUT = re.compile("validation_(.+)(?<!next_sentence)_loss")
_JOBS = tuple(STAGE_JOBS)


def gather(storage: Folder, pipeline: str) -> PipelineReport:
    """Everything that the runs `<pipeline>.<stage>` under a storage have recorded, whichever of them have run.

    Raises:
        StorageError: The storage cannot be read.
    """
    return Reader(storage, f"{pipeline}.", {one.name: one for one in list_runs(storage)}).pipeline()


class Reader(Records):
    """Reads what the runs of one storage have recorded into reports."""

    def __init__(self, storage: Folder, prefix: str, statuses: Mapping[str, RunStatus]) -> None:
        super().__init__(storage, prefix)
        self.results: dict[str, dict[str, Any]] = {}
        self.statuses = statuses
        self._curves: dict[str, RunCurves] = {}

    def pipeline(self) -> PipelineReport:
        """The runs of a pipeline, those first that others begin with. Raises StorageError."""
        jobs = self._jobs()
        evaluations = self._evaluations(jobs)
        twins = {twin: of for of, record in evaluations.items() if (twin := self._twin(record)) is not None}
        report = self.report({stage: job for stage, job in jobs.items() if stage not in twins}, evaluations)
        stages = list(report.stages)
        for twin, of in twins.items():
            name = TWIN if len(twins) == 1 else f"{TWIN}, {of}"
            stages.append(replace(self._stage(twin, "finetune"), stage=name))
        return replace(report, stages=tuple(stages), problems=tuple(self.problems))

    def report(
        self, jobs: Mapping[str, str], evaluations: Mapping[str, EvaluationRecord] | None = None
    ) -> PipelineReport:
        """These runs, each with its kind; `evaluations` may tell of searches among them. Raises StorageError."""
        if evaluations is None:
            evaluations = self._evaluations(jobs)
        stages = [self._stage(stage, job) for stage, job in jobs.items()]
        judged = {stage: record for stage, record in evaluations.items() if not self.configured(stage).get("sets")}
        searches = [
            search_report(self, stage, self._judging(stage, judged)) for stage, job in jobs.items() if job == "tune"
        ]
        pretrainings = [self._pretrain(stage) for stage, job in jobs.items() if job == "pretrain"]
        return PipelineReport(
            pipeline=self.prefix.removesuffix("."),
            stages=tuple(_with_losses(stages, searches, judged)),
            pretrainings=tuple(one for one in pretrainings if one is not None),
            searches=tuple(one for one in searches if self.statuses.get(self.run(one.stage).name)),
            evaluations=tuple(
                _verdict(stage, record)
                for stage, record in judged.items()
                if stage in jobs and self.run(stage).name in self.statuses
            ),
            passports={stage: self._passport(stage) for stage, job in jobs.items() if job == "prepare"},
            problems=tuple(self.problems),
        )

    def _evaluations(self, jobs: Mapping[str, str]) -> dict[str, EvaluationRecord]:
        return {stage: self.evaluation_of(stage) for stage, job in jobs.items() if job == "evaluate"}

    def _jobs(self) -> dict[str, str]:
        """What each stage does: those that the pipeline's configuration names, and further runs below its name.

        What stands below the name of another pipeline is that one's.
        """
        prefix, pipeline = self.prefix, self.prefix.removesuffix(".")
        named = self.yaml(self.storage / pipeline).get("stages", {})
        jobs = {str(stage): str(about["job"]) for stage, about in named.items()}
        others = tuple(
            f"{one.name}." for one in self.statuses.values() if one.kind == "pipeline" and one.name != pipeline
        )
        below = [one for one in self.statuses.values() if one.name.startswith(prefix) and one.kind in _JOBS]
        nearer = tuple(other for other in others if other.startswith(prefix))
        jobs |= {one.name.removeprefix(prefix): one.kind for one in below if not one.name.startswith(nearer)}

        def order(stage: str) -> tuple[int, float, str]:
            status = self.statuses.get(f"{prefix}{stage}")
            return _JOBS.index(jobs[stage]), status.started or 0.0 if status else float("inf"), stage

        return {stage: jobs[stage] for stage in sorted(jobs, key=order)}

    def evaluation_of(self, stage: str) -> EvaluationRecord:
        """The verdict of an evaluation, or what it has measured of bias alone; empty where it has none yet."""
        folder = self.run(stage) / "evaluation"
        judged = self.read(EvaluationRecord, folder, "metrics.json")
        return judged or EvaluationRecord(bias=self.read(BiasRecord, folder, "bias.json"))

    def _passport(self, stage: str) -> DataPassport:
        tokens = self.results.get(stage, {}).get("tokens")
        if not isinstance(tokens, str):
            return DataPassport()
        return passport_of(self.read(PassportRecord, self.storage / tokens, "passport.json") or PassportRecord())

    def _twin(self, evaluation: EvaluationRecord) -> str | None:
        """The stage behind the baseline from random weights, where the evaluation names one."""
        baseline = evaluation.baselines.get("random_weights")
        name = (baseline.model_extra or {}).get("run") if baseline else None
        known = isinstance(name, str) and name in self.statuses and name.startswith(self.prefix)
        return str(name).removeprefix(self.prefix) if known else None

    def _judging(self, search: str, judged: Mapping[str, EvaluationRecord]) -> EvaluationRecord | None:
        """The evaluation that judges the trials of a search."""
        name = self.run(search).name
        return next((record for one, record in judged.items() if name in self._judges(one)), None)

    def _judges(self, evaluation: str) -> list[str]:
        """The names of the searches whose trials an evaluation judges."""
        return [run_folder(self.storage, one).name for one in self.configured(evaluation).get("searches", [])]

    def _stage(self, stage: str, job: str) -> StageReport:
        told, result = stage_report(self, stage, job, self.statuses.get(self.run(stage).name))
        self.results[stage] = dict(result)
        return told

    def curves(self, stage: str) -> RunCurves:
        """What it told while it trained; read once. Raises StorageError."""
        if stage not in self._curves:
            run = self.run(stage)
            devices = {}
            for number in attempt_numbers(run):
                cost = self.read(CostRecord, attempt_folder(run, number), "cost.json")
                devices[number] = (cost and cost.devices) or 1
            found = self._curves[stage] = read_curves(run, devices)
            if found.num_torn:
                self.problems.append(f"{run.url}: {found.num_torn} rows of metrics cannot be read")
        return self._curves[stage]

    def _pretrain(self, stage: str) -> PretrainReport | None:
        run, curves = self.run(stage), self.curves(stage)
        result = self.results.get(stage, {})
        try:
            record = PretrainRecord.model_validate(result)
        except ValidationError as error:
            self.problems.append(f"{run.url}: result: {error.errors()[0]['msg']}")
            record = PretrainRecord()
        if not curves.metrics and not result:
            return None
        held_out = _held_out(curves.metrics)
        names = [*_FACTS, *(f"validation_{name}_{of}" for name in held_out for of in ("loss", "accuracy"))]
        return PretrainReport(
            stage=stage,
            train=curves.metrics.get("loss", Curve()),
            validation=curves.metrics.get("validation_loss", Curve()),
            facts={name: result[name] for name in names if isinstance(result.get(name), str | int | float)},
            held_out=held_out,
            samples=tuple(Sample(sample.prompt, sample.text) for sample in record.samples),
            train_loss=record.train_loss,
            validation_loss=record.validation_loss,
            unigram_loss=record.unigram_loss,
        )


def _held_out(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """By name, the losses of further held-out sets; those of sentence pairs are left out: they are not of tokens."""
    return {match[1]: curves[match[0]] for match in map(_HELD_OUT.fullmatch, curves) if match}


def _verdict(stage: str, evaluation: EvaluationRecord) -> EvaluationReport:
    return EvaluationReport(
        stage=stage,
        metric=evaluation.suite.get("choose_by") or METRIC,
        chosen=evaluation.chosen,
        judged=tuple(judged_models(evaluation)),
        differences=evaluation.differences,
        lower_is_better=tuple(evaluation.lower_is_better),
        suite=dict(leaves({"set": evaluation.set, "suite": evaluation.suite}, (str, int, float))),
        num_test_looks=evaluation.register_looks,
        notes=(evaluation.note,) if evaluation.note else (),
        closer=closer_look(evaluation),
    )


def _with_losses(
    stages: Iterable[StageReport], searches: Iterable[SearchReport], evaluations: Mapping[str, EvaluationRecord]
) -> Iterator[StageReport]:
    """The stages, with what was left out that no stage's own result counts: failed trials, ends of judged texts."""
    failed = {search.stage: sum(trial.status == "failed" for trial in search.trials) for search in searches}
    cut = {
        stage: max((model.num_truncated or 0 for model in evaluation.models), default=0)
        for stage, evaluation in evaluations.items()
    }
    for stage in stages:
        dropped = dict(stage.dropped)
        if num_failed := failed.get(stage.stage):
            dropped.setdefault("failed trials", num_failed)
        if num_cut := cut.get(stage.stage):
            dropped.setdefault("ends of long validation texts", num_cut)
        yield replace(stage, dropped=dropped)
