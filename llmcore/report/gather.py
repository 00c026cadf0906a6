"""From the records of a pipeline's runs to a `PipelineReport`: what is absent stays empty, what is torn is named."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llmcore.evaluation.bootstrap import Interval
from llmcore.records import RunStatus, list_runs, read_metrics
from llmcore.records.layout import attempt_folder, attempt_numbers
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

Scalar = str | int | float | bool | None
Figures = dict[str, Interval]


class _Record(BaseModel):
    """The part of a record that a report needs; records may hold more."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _Run(_Record):
    fingerprint: str = ""
    versions: dict[str, Any] = {}


class _End(_Record):
    error: Any = None
    result: dict[str, Any] | None = None


class _Cost(_Record):
    devices: int | None = None
    device: str | None = None
    seconds: dict[str, float] = {}
    device_seconds: dict[str, float] = {}
    start_up_parts: dict[str, float] = {}
    flops: float | None = None
    tokens: int | None = None
    mfu: float | None = None
    money: float | None = None


class _Sample(_Record):
    prompt: str
    text: str


class _Pretrain(_Record):
    train_loss: float | None = None
    validation_loss: float | None = None
    unigram_loss: float | None = None
    samples: list[_Sample] = []


class _Search(_Record):
    closed: bool = False
    metric: str | None = None


class _Trial(_Record):
    id: str
    status: str
    config: dict[str, Any] = {}
    reports: list[dict[str, Any]] = []
    seed: int | None = None
    num_steps: int | None = None
    seconds: float | None = None
    error: Any = None


class _Judged(_Record):
    id: str
    validation: Figures | None = None
    test: Figures | None = None


class _Baseline(_Record):
    validation: Figures | None = None
    test: Figures | None = None


class _Evaluation(_Record):
    suite: dict[str, Any] = {}
    chosen: str | None = None
    models: list[_Judged] = []
    baselines: dict[str, _Baseline | Figures] = {}
    differences: dict[str, Figures] = {}
    register_looks: int | None = None
    note: str | list[str] = Field(default_factory=list)


RecordT = TypeVar("RecordT", bound=_Record)


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
        stages = tuple(self._stage(stage, statuses.get(f"{self.pipeline}.{stage}")) for stage in STAGES)
        search = self._read(_Search, self._run("tune"), "search.json")
        metric = (search and search.metric) or "macro_f1"
        evaluation = self._read(_Evaluation, self._run("evaluate") / "evaluation", "metrics.json")
        evaluation = evaluation or _Evaluation()
        note = evaluation.note
        return PipelineReport(
            pipeline=self.pipeline,
            stages=tuple(stages),
            pretrain=self._pretrain(),
            trials=tuple(self._trials(metric, evaluation)),
            search_closed=search is not None and search.closed,
            metric=metric,
            chosen=evaluation.chosen,
            judged=tuple(_judged(evaluation, metric)),
            differences=evaluation.differences,
            suite=dict(_flat(evaluation.suite, (str, int, float))),
            num_test_looks=evaluation.register_looks,
            notes=tuple([note] if isinstance(note, str) else note),
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
        about = self._read(_Run, run, "run.json") or _Run()
        numbers = attempt_numbers(run)
        costs: dict[int, _Cost] = {}
        end = _End()
        for number in numbers:
            folder = attempt_folder(run, number)
            if cost := self._read(_Cost, folder, "cost.json"):
                costs[number] = cost
            end = self._read(_End, folder, "end.json") or _End()
        self.results[stage] = result = end.result or {}
        dropped = dict(_flat(result.get("dropped"), (int,)))
        if stage == "tune" and (failed := self._num_failed_trials()):
            dropped["failed trials"] = failed
        last = costs[max(costs)] if costs else _Cost()
        return StageReport(
            stage=stage,
            run=run.name,
            status=status.status,
            started=str(status.started or ""),
            num_attempts=len(numbers),
            fingerprint=about.fingerprint,
            versions={name: str(version) for name, version in about.versions.items() if version is not None},
            error=_error(end.error),
            device=last.device or "",
            num_devices=last.devices,
            seconds=_summed(cost.seconds for cost in costs.values()),
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
            dropped=dropped,
        )

    def _pretrain(self) -> PretrainReport | None:
        rows = read_metrics(self._run("pretrain"))
        result = self.results.get("pretrain", {})
        try:
            record = _Pretrain.model_validate(result)
        except ValidationError as error:
            self.problems.append(f"{self._run('pretrain').url}: result: {error.errors()[0]['msg']}")
            record = _Pretrain()
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

    def _trial_records(self) -> Iterator[_Trial]:
        trials = self._run("tune") / "trials"
        for name in trials.names():
            if record := self._read(_Trial, trials / name, "trial.json"):
                yield record

    def _num_failed_trials(self) -> int:
        return sum(record.status == "failed" for record in self._trial_records())

    def _trials(self, metric: str, evaluation: _Evaluation) -> Iterator[TrialReport]:
        judged = {model.id: model.validation or {} for model in evaluation.models}
        for record in self._trial_records():
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
                chosen=record.id == evaluation.chosen,
                validation=judged.get(record.id, {}),
            )


def _judged(evaluation: _Evaluation, metric: str) -> Iterator[JudgedModel]:
    """The chosen model, the baselines, then the other trials, the best on validation first."""

    def line(record: _Judged, kind: Literal["chosen", "trial"]) -> JudgedModel:
        return JudgedModel(
            f"trial {record.id}" + (", chosen" if kind == "chosen" else ""),
            kind,
            record.validation or {},
            record.test or {},
        )

    def worth(record: _Judged) -> float:
        return -record.validation[metric].value if record.validation and metric in record.validation else 0.0

    for record in evaluation.models:
        if record.id == evaluation.chosen:
            yield line(record, "chosen")
    for name, baseline in evaluation.baselines.items():
        figures = baseline if isinstance(baseline, _Baseline) else _Baseline(test=baseline)
        yield JudgedModel(
            BASELINE_NAMES.get(name, plain(name)), "baseline", figures.validation or {}, figures.test or {}
        )
    for record in sorted(evaluation.models, key=worth):
        if record.id != evaluation.chosen:
            yield line(record, "trial")


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
