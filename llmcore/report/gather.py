"""From the records of runs to a `PipelineReport`: what is absent stays empty, what is torn is named."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from llmcore.config.pipeline import STAGE_JOBS
from llmcore.evaluation.searches import Search
from llmcore.records import RunStatus, attempt_folder, attempt_numbers, list_runs, lived, run_folder
from llmcore.report.closer import closer_look
from llmcore.report.curves import RunCurves, read_curves
from llmcore.report.model import (
    TWIN,
    Curve,
    EvaluationReport,
    Fit,
    PipelineReport,
    PretrainReport,
    Sample,
    SearchReport,
    StageReport,
    TrialReport,
)
from llmcore.report.passport import DataPassport, passport_of
from llmcore.report.recorded import (
    BiasRecord,
    CostRecord,
    EndRecord,
    EvaluationRecord,
    PassportRecord,
    PretrainRecord,
    Record,
    RunRecord,
    SearchRecord,
    TrialRecord,
)
from llmcore.report.standing import judged_models
from llmcore.report.words import moment
from llmcore.search.importance import FEWEST_TRIALS, importances
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
_TRIAL_FITS = 4
_JOBS = tuple(STAGE_JOBS)
_METRIC = "macro_f1"

RecordT = TypeVar("RecordT", bound=Record)


def gather(storage: Folder, pipeline: str) -> PipelineReport:
    """Everything that the runs `<pipeline>.<stage>` under a storage have recorded, whichever of them have run.

    Raises:
        StorageError: The storage cannot be read.
    """
    return Reader(storage, f"{pipeline}.", {one.name: one for one in list_runs(storage)}).pipeline()


@dataclass(frozen=True)
class _Attempt:
    number: int
    span: tuple[float, float]
    end: EndRecord
    cost: CostRecord | None


class Reader:
    """Reads the records of runs of one storage; `problems` are those that cannot be read, each with its place.

    A run is named by what stands behind the `prefix` of its name: of a pipeline's runs, the stage.
    """

    def __init__(self, storage: Folder, prefix: str, statuses: Mapping[str, RunStatus]) -> None:
        self.storage = storage
        self.prefix = prefix
        self.problems: list[str] = []
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
        searches = [self._search(stage, judged) for stage, job in jobs.items() if job == "tune"]
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
        named = self._yaml(self.storage / pipeline).get("stages", {})
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
        judged = self._read(EvaluationRecord, folder, "metrics.json")
        return judged or EvaluationRecord(bias=self._read(BiasRecord, folder, "bias.json"))

    def _passport(self, stage: str) -> DataPassport:
        tokens = self.results.get(stage, {}).get("tokens")
        if not isinstance(tokens, str):
            return DataPassport()
        return passport_of(self._read(PassportRecord, self.storage / tokens, "passport.json") or PassportRecord())

    def run(self, stage: str) -> Folder:
        """Where it is kept."""
        return self.storage / f"{self.prefix}{stage}"

    def _twin(self, evaluation: EvaluationRecord) -> str | None:
        """The stage behind the baseline from random weights, where the evaluation names one."""
        baseline = evaluation.baselines.get("random_weights")
        name = (baseline.model_extra or {}).get("run") if baseline else None
        known = isinstance(name, str) and name in self.statuses and name.startswith(self.prefix)
        return str(name).removeprefix(self.prefix) if known else None

    def _search(self, stage: str, judged: Mapping[str, EvaluationRecord]) -> SearchReport:
        search = self._read(SearchRecord, self.run(stage), "search.json") or SearchRecord()
        of = next((record for one, record in judged.items() if self.run(stage).name in self._judges(one)), None)
        evaluation = of or EvaluationRecord()
        metric = search.metric or evaluation.suite.get("choose_by") or _METRIC
        trials = tuple(self._trials(stage, search, metric, evaluation))
        return SearchReport(
            stage=stage,
            trials=trials,
            metric=metric,
            judged_by=evaluation.suite.get("choose_by") or metric,
            closed=search.closed,
            ended_by=search.ended_by,
            importance=self._importance(stage, search, trials),
        )

    def _judges(self, evaluation: str) -> list[str]:
        """The names of the searches whose trials an evaluation judges."""
        return [run_folder(self.storage, one).name for one in self.configured(evaluation).get("searches", [])]

    def configured(self, stage: str) -> dict[str, Any]:
        """What a stage's run says of itself."""
        return self._yaml(self.run(stage))

    @staticmethod
    def _yaml(run: Folder) -> dict[str, Any]:
        text = run.find_bytes("config.yaml")
        return {} if text is None else dict(yaml.safe_load(text) or {})

    def _read(self, model: type[RecordT], folder: Folder, name: str) -> RecordT | None:
        data = folder.find_bytes(name)
        try:
            return None if data is None else model.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            told = f"{folder.url}/{name}: {place}: {first['msg']}"
            self.problems += [] if told in self.problems else [told]
            return None

    def _stage(self, stage: str, job: str) -> StageReport:
        run = self.run(stage)
        status = self.statuses.get(run.name)
        if status is None:
            return StageReport(stage, run.name, job=job)
        about = self._read(RunRecord, run, "run.json") or RunRecord()
        attempts = [self._attempt(run, number) for number in attempt_numbers(run)]
        costs = [attempt.cost for attempt in attempts if attempt.cost]
        end = attempts[-1].end if attempts else EndRecord()
        last = costs[-1] if costs else CostRecord()
        result = end.result or {}
        self.results[stage] = result
        seconds = _summed(cost.seconds for cost in costs)
        device_seconds = _summed(cost.device_seconds for cost in costs)
        if lost := sum(attempt.span[1] - attempt.span[0] for attempt in attempts if not attempt.cost):
            seconds["lost"], device_seconds["lost"] = lost, lost * (last.devices or 1)
        return StageReport(
            stage=stage,
            run=run.name,
            job=job,
            status=status.status,
            started=moment(status.started),
            num_attempts=len(attempts),
            fingerprint=about.fingerprint,
            versions={name: str(version) for name, version in about.versions.items() if version is not None},
            error=_error(end.error),
            device=last.device or "",
            num_devices=last.devices,
            seconds=seconds,
            device_seconds=device_seconds,
            fits=tuple(self._fits(stage, job, attempts)),
            spans=tuple(attempt.span for attempt in attempts),
            flops=_sum_known(cost.flops for cost in costs),
            tokens=_sum_known(cost.tokens for cost in costs),
            mfu=last.mfu,
            money=_sum_known(cost.money for cost in costs),
            energy_j=_sum_known(cost.energy_j for cost in costs),
            counts=dict(_flat(result.get("counts"), (int,))),
            dropped=_left_out(result),
        )

    def _attempt(self, run: Folder, number: int) -> _Attempt:
        folder = attempt_folder(run, number)
        end = self._read(EndRecord, folder, "end.json") or EndRecord()
        started, last = lived(folder)
        return _Attempt(
            number,
            span=(started, max(started, end.ended or last)),
            end=end,
            cost=self._read(CostRecord, folder, "cost.json"),
        )

    def _fits(self, stage: str, job: str, attempts: list[_Attempt]) -> Iterator[Fit]:
        """Start-up of each attempt; of a search, that of its first trials, each of which starts workers."""
        if job == "tune":
            trials = self.run(stage) / "trials"
            for name in trials.names()[:_TRIAL_FITS]:
                cost = self._read(CostRecord, trials / name, "cost.json")
                if cost and cost.start_up_parts:
                    yield Fit(f"trial {name}", cost.start_up_parts)
            return
        for attempt in attempts:
            if attempt.cost and attempt.cost.start_up_parts:
                name = stage if len(attempts) == 1 else f"{stage}, attempt {attempt.number}"
                yield Fit(name, attempt.cost.start_up_parts)

    def curves(self, stage: str) -> RunCurves:
        """What it told while it trained; read once. Raises StorageError."""
        if stage not in self._curves:
            run = self.run(stage)
            devices = {}
            for number in attempt_numbers(run):
                cost = self._read(CostRecord, attempt_folder(run, number), "cost.json")
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

    def _importance(self, stage: str, search: SearchRecord, trials: Sequence[TrialReport]) -> dict[str, float]:
        """Which keys of the search made the difference, where there are enough trials to tell."""
        searched = [one for one in trials if one.status != "failed" and not one.id.startswith("final")]
        worth = [(one.config, one.best) for one in searched if one.best is not None]
        if len(worth) < FEWEST_TRIALS:
            return {}
        try:
            config = Search(self.run(stage)).config()
        except ValidationError as error:
            self.problems.append(f"{self.run(stage).url}/config.yaml: {error.errors()[0]['msg']}")
            config = None
        return {} if config is None else importances(config.space, worth, higher_is_better=search.higher_is_better)

    def _trials(
        self, stage: str, search: SearchRecord, metric: str, evaluation: EvaluationRecord
    ) -> Iterator[TrialReport]:
        # Where several searches were judged together, the search's name stands before the trial's.
        prefix = f"{self.run(stage).name}/"
        judged = {model.id.removeprefix(prefix): model.validation or {} for model in evaluation.models}
        chosen = (evaluation.chosen or "").removeprefix(prefix)
        trials = self.run(stage) / "trials"
        for name in trials.names():
            record = self._read(TrialRecord, trials / name, "trial.json")
            if record is None:
                continue
            by_step = sorted(record.reports, key=lambda report: report.get("step", 0))
            curve = _curve(by_step, metric)
            yield TrialReport(
                id=record.id,
                status=record.status,
                config=dict(_flat(record.config, (str, int, float, bool, type(None)))),
                curve=curve if curve.steps else _curve(by_step, f"validation_{metric}"),
                seed=record.seed,
                num_steps=record.num_steps,
                seconds=record.seconds,
                device_seconds=record.device_seconds,
                cause=record.cause,
                best=record.best_value,
                error=_error(record.error),
                on_front=record.id in search.front,
                chosen=record.id == chosen,
                validation=judged.get(record.id, {}),
            )


def _held_out(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """By name, the losses of further held-out sets; those of sentence pairs are left out: they are not of tokens."""
    return {match[1]: curves[match[0]] for match in map(_HELD_OUT.fullmatch, curves) if match}


def _verdict(stage: str, evaluation: EvaluationRecord) -> EvaluationReport:
    return EvaluationReport(
        stage=stage,
        metric=evaluation.suite.get("choose_by") or _METRIC,
        chosen=evaluation.chosen,
        judged=tuple(judged_models(evaluation)),
        differences=evaluation.differences,
        lower_is_better=tuple(evaluation.lower_is_better),
        suite=dict(_flat({"set": evaluation.set, "suite": evaluation.suite}, (str, int, float))),
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


def _left_out(result: Mapping[str, Any]) -> dict[str, int]:
    dropped = dict(_flat(result.get("dropped"), (int,)))
    passed_over = result.get("passed_over_checkpoints")
    told = {"checkpoints passed over": len(passed_over)} if isinstance(passed_over, list) and passed_over else {}
    return dropped | told


def _curve(rows: list[dict[str, Any]], metric: str) -> Curve:
    points = [(row["step"], float(row[metric])) for row in rows if "step" in row and row.get(metric) is not None]
    return Curve(tuple(step for step, _ in points), tuple(value for _, value in points))


def _flat(values: Any, kinds: tuple[type, ...], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of these kinds of a nested mapping, by their words: `{"train": {"rows": 3}}` is `train, rows`."""
    if not isinstance(values, Mapping):
        return
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, kinds, f"{name}, ")
        elif type(value) in kinds:
            yield name, value


def _summed(parts: Iterator[dict[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0.0) + value
    return total


def _sum_known(values: Iterator[Any]) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _error(error: Any) -> str:
    if not error:
        return ""
    return str(error.get("message", error)) if isinstance(error, Mapping) else str(error)
