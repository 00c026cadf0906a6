"""From the records of any runs to a `RunsReport`: of one run all that it tells, of several what tells them apart."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llmcore.evaluation.bootstrap import Interval
from llmcore.records import RunStatus, attempt_folder, attempt_numbers, lineage_of, list_runs, newest_result, run_folder
from llmcore.report.curves import RunCurves
from llmcore.report.differing import differing, flat
from llmcore.report.gather import Reader
from llmcore.report.model import PipelineReport, StageReport
from llmcore.report.recorded import EvaluationRecord
from llmcore.report.words import moment
from llmcore.storage import Folder

__all__ = ["AttemptReport", "RunReport", "RunsReport", "Verdict", "gather_runs"]

_ABOUT_ITSELF = ("name",)
"""What each run has its own of, so that it is no difference."""


@dataclass(frozen=True)
class AttemptReport:
    """One start of a run; `status` is empty while it has not ended, and where it was killed."""

    number: int
    started: str
    status: str
    seconds: float | None
    host: str
    changes: tuple[str, ...]
    error: str


@dataclass(frozen=True)
class Verdict:
    """What an evaluation says of a run's model on a split, with intervals."""

    evaluation: str
    split: str
    metrics: Mapping[str, Interval]


@dataclass(frozen=True)
class RunReport:
    """One run, whatever its kind.

    Attributes:
        name: Its own, unless several of the report have the same; then its URL.
        config: The leaves of its configuration as text, by dotted key.
        result: Plain numbers and words of its newest attempt that succeeded, by dotted key.
        lineage: What it was made of, as lines of a tree.
    """

    name: str
    url: str
    kind: str
    config: Mapping[str, str] = field(default_factory=dict)
    result: Mapping[str, str] = field(default_factory=dict)
    curves: RunCurves = field(default_factory=RunCurves)
    attempts: tuple[AttemptReport, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    lineage: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunsReport:
    """Everything that the page on runs shows.

    Attributes:
        runs: In the order in which they were named.
        parts: What a pipeline's page would say of the same runs: costs, trials, verdicts, passports, problems.
    """

    runs: tuple[RunReport, ...]
    parts: PipelineReport

    @property
    def name(self) -> str:
        """For a title."""
        return ", ".join(run.name for run in self.runs)

    @property
    def differing(self) -> tuple[list[str], dict[str, str]]:
        """Keys of their configurations that differ, and those that do not, with their values."""
        return differing([run.config for run in self.runs], [run.kind for run in self.runs])

    @property
    def judged(self) -> dict[tuple[str, str, str], list[Interval | None]]:
        """By evaluation, split and metric, the figure of each run."""
        told = [
            {(one.evaluation, one.split, metric): of for one in run.verdicts for metric, of in one.metrics.items()}
            for run in self.runs
        ]
        return {key: [of.get(key) for of in told] for key in dict.fromkeys(key for of in told for key in of)}

    def stage(self, run: RunReport) -> StageReport:
        """How a run stands and what it cost."""
        return self.parts.stage(run.name)


def gather_runs(runs: Sequence[Folder]) -> RunsReport:
    """Everything that these runs have recorded, and the evaluations beside them that judged them.

    Raises:
        StorageError: A storage cannot be read.
    """
    storages = {run.parent.url: run.parent for run in runs}
    listed = {url: {one.name: one for one in list_runs(storage)} for url, storage in storages.items()}
    readers = {url: Reader(storage, "", listed[url]) for url, storage in storages.items()}
    names = [run.name for run in runs]
    told: list[RunReport] = []
    parts: list[PipelineReport] = []
    for run in runs:
        reader, statuses = readers[run.parent.url], listed[run.parent.url]
        name = run.name if names.count(run.name) == 1 else run.url
        judging = dict(_judging(reader, statuses, run))
        part = reader.report({run.name: statuses[run.name].kind}, judging)
        parts.append(_named(part, name))
        told.append(_run(reader, run, name, statuses[run.name].kind, judging))
    return RunsReport(tuple(told), _together(parts, [one for reader in readers.values() for one in reader.problems]))


def _judging(reader: Reader, statuses: Mapping[str, RunStatus], run: Folder) -> Iterator[tuple[str, EvaluationRecord]]:
    """The evaluations that a run is, or that judged what it made."""
    for name, status in statuses.items():
        if status.kind != "evaluate":
            continue
        config = reader.configured(name)
        named = [*(config.get("searches") or []), *(config.get("models") or {}).values()]
        record = reader.evaluation_of(name)
        if name == run.name or _is_twin(record, run.name) or run.url in _urls(reader.storage, named):
            yield name, record


def _urls(storage: Folder, references: Iterable[Any]) -> set[str]:
    return {run_folder(storage, one).url for one in references if isinstance(one, str)}


def _is_twin(record: EvaluationRecord, name: str) -> bool:
    """Whether a run is the baseline from random weights of an evaluation."""
    twin = record.baselines.get("random_weights")
    return twin is not None and (twin.model_extra or {}).get("run") == name


def _run(reader: Reader, run: Folder, name: str, kind: str, judging: Mapping[str, EvaluationRecord]) -> RunReport:
    result = newest_result(run) or {}
    config = {key: value for key, value in reader.configured(run.name).items() if key not in _ABOUT_ITSELF}
    return RunReport(
        name=name,
        url=run.url,
        kind=kind,
        config=dict(flat(config)),
        result=dict(flat(result)),
        curves=reader.curves(run.name),
        attempts=tuple(_attempt(run, number) for number in attempt_numbers(run)),
        verdicts=tuple(one for of, record in judging.items() for one in _verdicts(reader, run, of, record)),
        lineage=tuple(lineage_of(run.parent, run.name).lines()),
    )


def _attempt(run: Folder, number: int) -> AttemptReport:
    folder = attempt_folder(run, number)
    begin, end = folder.find_json("begin.json") or {}, folder.find_json("end.json") or {}
    return AttemptReport(
        number=number,
        started=moment(begin.get("started")),
        status=str(end.get("status", "")),
        seconds=end.get("seconds"),
        host=str(begin.get("host", "")),
        changes=tuple(map(str, begin.get("changes") or ())),
        error=str(end.get("error") or ""),
    )


def _verdicts(reader: Reader, run: Folder, name: str, record: EvaluationRecord) -> Iterator[Verdict]:
    """What an evaluation says of this run: of its model, of the chosen one of its trials, or as its baseline."""
    if _is_twin(record, run.name):
        found: Any = record.baselines["random_weights"]
    else:
        config = reader.configured(name)
        labels = [label for label, of in (config.get("models") or {}).items() if run.url in _urls(reader.storage, [of])]
        searched = run.url in _urls(reader.storage, config.get("searches") or [])
        chosen = record.chosen or ""
        of_this = name == run.name or (searched and ("/" not in chosen or chosen.startswith(f"{run.name}/")))
        wanted = labels or ([chosen] if of_this else [])
        found = next((model for model in record.models if model.id in wanted), None)
    if found is not None:
        for split, metrics in (("test", found.test), ("validation", found.validation)):
            if metrics:
                yield Verdict(name, split, metrics)


def _named(part: PipelineReport, name: str) -> PipelineReport:
    """The only run of a part under another name."""
    return replace(part, stages=tuple(replace(stage, stage=name) for stage in part.stages))


def _together(parts: Sequence[PipelineReport], problems: Sequence[str]) -> PipelineReport:
    return PipelineReport(
        pipeline="",
        stages=tuple(one for part in parts for one in part.stages),
        pretrainings=tuple(one for part in parts for one in part.pretrainings),
        searches=tuple(one for part in parts for one in part.searches),
        evaluations=tuple(one for part in parts for one in part.evaluations),
        passports={name: one for part in parts for name, one in part.passports.items()},
        problems=tuple(problems),
    )
