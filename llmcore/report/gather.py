"""From the records of a pipeline's runs to a `PipelineReport`: what is absent stays empty, what is torn is named."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from llmcore.records import RunStatus, attempt_folder, attempt_numbers, list_runs, read_metrics_counted
from llmcore.report.model import (
    BASELINE_NAMES,
    STAGES,
    Curve,
    Fit,
    JudgedModel,
    PipelineReport,
    PretrainReport,
    Sample,
    StageReport,
    TrialReport,
)
from llmcore.report.recorded import (
    CostRecord,
    EndRecord,
    EvaluationRecord,
    JudgedRecord,
    PretrainRecord,
    Record,
    RunRecord,
    SearchRecord,
    TrialRecord,
)
from llmcore.report.words import plain
from llmcore.storage import Folder

__all__ = ["gather"]

_FACTS = (
    "num_parameters",
    "num_steps",
    "tokens_seen",
    "rows_consumed",
    "world_size",
    "zero_stage",
    "precision",
    "data_wait_fraction",
)

RecordT = TypeVar("RecordT", bound=Record)


def gather(storage: Folder, pipeline: str) -> PipelineReport:
    """Everything that the runs `<pipeline>.<stage>` under a storage have recorded, whichever of them have run.

    Raises:
        StorageError: The storage cannot be read.
    """
    return _Reader(storage, pipeline).report()


class _Reader:
    def __init__(self, storage: Folder, pipeline: str) -> None:
        self.storage = storage
        self.pipeline = pipeline
        self.problems: list[str] = []
        self.results: dict[str, dict[str, Any]] = {}

    def report(self) -> PipelineReport:
        statuses = {status.name: status for status in list_runs(self.storage)}
        evaluation = (
            self._read(EvaluationRecord, self._run("evaluate") / "evaluation", "metrics.json") or EvaluationRecord()
        )
        stages = [self._stage(stage, statuses.get(f"{self.pipeline}.{stage}")) for stage in STAGES]
        search = self._read(SearchRecord, self._run("tune"), "search.json") or SearchRecord()
        metric = evaluation.suite.get("choose_by") or search.metric or "macro_f1"
        pretrain = self._pretrain()
        trials = tuple(self._trials(search.metric or metric, evaluation))
        return PipelineReport(
            pipeline=self.pipeline,
            stages=tuple(_with_losses(stages, trials, evaluation)),
            pretrain=pretrain,
            trials=trials,
            search_closed=search.closed,
            metric=metric,
            search_metric=search.metric or metric,
            chosen=evaluation.chosen,
            judged=tuple(_judged(evaluation, metric)),
            differences=evaluation.differences,
            suite=dict(_flat({"set": evaluation.set, "suite": evaluation.suite}, (str, int, float))),
            num_test_looks=evaluation.register_looks,
            notes=(evaluation.note,) if evaluation.note else (),
            problems=tuple(self.problems),
        )

    def _run(self, stage: str) -> Folder:
        return self.storage / f"{self.pipeline}.{stage}"

    def _read(self, model: type[RecordT], folder: Folder, name: str) -> RecordT | None:
        data = folder.find_bytes(name)
        try:
            return None if data is None else model.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            self.problems.append(f"{folder.url}/{name}: {place}: {first['msg']}")
            return None

    def _stage(self, stage: str, status: RunStatus | None) -> StageReport:
        run = self._run(stage)
        if status is None:
            return StageReport(stage, run.name)
        about = self._read(RunRecord, run, "run.json") or RunRecord()
        numbers = attempt_numbers(run)
        costs: dict[int, CostRecord] = {}
        end = EndRecord()
        for number in numbers:
            folder = attempt_folder(run, number)
            if cost := self._read(CostRecord, folder, "cost.json"):
                costs[number] = cost
            end = self._read(EndRecord, folder, "end.json") or EndRecord()
        self.results[stage] = result = end.result or {}
        seconds = _summed(cost.seconds for cost in costs.values())
        if len(costs) < len(numbers) and (lost := status.seconds - sum(seconds.values())) > 0:
            seconds["lost"] = lost
        last = costs[max(costs)] if costs else CostRecord()
        return StageReport(
            stage=stage,
            run=run.name,
            status=status.status,
            started=_time(status.started),
            num_attempts=len(numbers),
            fingerprint=about.fingerprint,
            versions={name: str(version) for name, version in about.versions.items() if version is not None},
            error=_error(end.error),
            device=last.device or "",
            num_devices=last.devices,
            seconds=seconds,
            device_seconds=_summed(cost.device_seconds for cost in costs.values()),
            fits=tuple(
                Fit(stage if len(costs) == 1 else f"{stage}, attempt {number}", cost.start_up_parts)
                for number, cost in costs.items()
                if cost.start_up_parts
            ),
            flops=_sum_known(cost.flops for cost in costs.values()),
            tokens=_sum_known(cost.tokens for cost in costs.values()),
            mfu=last.mfu,
            money=_sum_known(cost.money for cost in costs.values()),
            counts=dict(_flat(result.get("counts"), (int,))),
            dropped=dict(_flat(result.get("dropped"), (int,))),
        )

    def _pretrain(self) -> PretrainReport | None:
        rows, num_torn = read_metrics_counted(self._run("pretrain"))
        if num_torn:
            self.problems.append(f"{self._run('pretrain').url}: {num_torn} rows of metrics cannot be read")
        result = self.results.get("pretrain", {})
        try:
            record = PretrainRecord.model_validate(result)
        except ValidationError as error:
            self.problems.append(f"{self._run('pretrain').url}: result: {error.errors()[0]['msg']}")
            record = PretrainRecord()
        if not rows and not result:
            return None
        return PretrainReport(
            train=_curve(rows, "loss"),
            validation=_curve(rows, "validation_loss"),
            facts={name: result[name] for name in _FACTS if isinstance(result.get(name), str | int | float)},
            samples=tuple(Sample(sample.prompt, sample.text) for sample in record.samples),
            train_loss=record.train_loss,
            validation_loss=record.validation_loss,
            unigram_loss=record.unigram_loss,
        )

    def _trials(self, metric: str, evaluation: EvaluationRecord) -> Iterator[TrialReport]:
        # Where several searches were judged together, the search's name stands before the trial's.
        prefix = f"{self._run('tune').name}/"
        judged = {model.id.removeprefix(prefix): model.validation or {} for model in evaluation.models}
        chosen = (evaluation.chosen or "").removeprefix(prefix)
        trials = self._run("tune") / "trials"
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
                error=_error(record.error),
                chosen=record.id == chosen,
                validation=judged.get(record.id, {}),
            )


def _judged(evaluation: EvaluationRecord, metric: str) -> Iterator[JudgedModel]:
    """The chosen model, the baselines, then the other trials, the best on validation first."""

    def worth(record: JudgedRecord) -> float:
        return record.validation[metric].value if record.validation and metric in record.validation else -1.0

    chosen = [record for record in evaluation.models if record.id == evaluation.chosen]
    others = [record for record in evaluation.models if record.id != evaluation.chosen]
    yield from (
        JudgedModel(f"{record.id}, chosen", "chosen", record.status, None, record.validation or {}, record.test or {})
        for record in chosen
    )
    for name, baseline in evaluation.baselines.items():
        about = ", ".join(f"{plain(key)} {value}" for key, value in (baseline.model_extra or {}).items())
        yield JudgedModel(
            BASELINE_NAMES.get(name, plain(name)),
            "baseline",
            about,
            None,
            baseline.validation or {},
            baseline.test or {},
        )
    for record in sorted(others, key=worth, reverse=True):
        apart = record.distinguishable_from_leader
        yield JudgedModel(record.id, "trial", record.status, apart, record.validation or {}, record.test or {})


def _with_losses(
    stages: Iterable[StageReport], trials: Iterable[TrialReport], evaluation: EvaluationRecord
) -> Iterator[StageReport]:
    """The stages, with what was left out that no stage's own result counts: failed trials, ends of judged texts."""
    num_failed = sum(trial.status == "failed" for trial in trials)
    num_cut = max((model.num_truncated or 0 for model in evaluation.models), default=0)
    for stage in stages:
        dropped = dict(stage.dropped)
        if stage.stage == "tune" and num_failed:
            dropped.setdefault("failed trials", num_failed)
        if stage.stage == "evaluate" and num_cut:
            dropped.setdefault("ends of long validation texts", num_cut)
        yield replace(stage, dropped=dropped)


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


def _time(unix_s: float | None) -> str:
    return "" if unix_s is None else f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _error(error: Any) -> str:
    if not error:
        return ""
    return str(error.get("message", error)) if isinstance(error, Mapping) else str(error)
