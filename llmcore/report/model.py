"""What a report says of a pipeline: plain typed values, gathered from the records and drawn by the page."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from llmcore.evaluation.bootstrap import Interval
from llmcore.report.closer import CloserLook
from llmcore.report.passport import DataPassport

__all__ = [
    "BASELINE_NAMES",
    "TWIN",
    "Scalar",
    "Curve",
    "Dropped",
    "EvaluationReport",
    "Fit",
    "JudgedModel",
    "PipelineReport",
    "PretrainReport",
    "Sample",
    "SearchReport",
    "StageReport",
    "TrialReport",
]

Scalar = str | int | float | bool | None
TWIN = "random weights"
"""Not a stage: the run that fine-tunes the baseline from random weights, while `evaluate` waits for it."""
BASELINE_NAMES = {
    "majority": "majority class",
    "copy_source": "the source itself",
    "lead_3": "first three sentences",
    "random_weights": "random weights, fine-tuned",
    "runner_up": "next best on validation",
    "config": "the configuration as it stood",
}


@dataclass(frozen=True)
class Curve:
    """A metric by step."""

    steps: tuple[int, ...] = ()
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Fit:
    """How one start of the workers spent its seconds before the first step, by part."""

    name: str
    parts_s: Mapping[str, float]


@dataclass(frozen=True)
class StageReport:
    """One run of the pipeline (a stage, or the twin): how it stands and what it cost, over all its attempts.

    Attributes:
        job: What it does: the kind of its run.
        status: As `jobs runs` says it, or `not run`.
        started: Start of the first attempt, UTC.
        seconds: Wall seconds by category of the ledger; `lost` is of attempts that were killed and left no ledger.
        device_seconds: The same, times the devices held.
        fits: Start-up by part, one for each start of workers.
        spans: Start and end of each attempt, Unix time; stages run side by side, and attempts apart.
        flops: Floating-point operations of the models; None where the stage counts none.
        energy_j: Joules of its GPUs; None where no attempt tells it.
        counts: What went through the stage, by name.
        dropped: What the stage left out, by reason.
    """

    stage: str
    run: str
    status: str = "not run"
    job: str = ""
    started: str = ""
    num_attempts: int = 0
    fingerprint: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    error: str = ""
    device: str = ""
    num_devices: int | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    device_seconds: Mapping[str, float] = field(default_factory=dict)
    fits: tuple[Fit, ...] = ()
    spans: tuple[tuple[float, float], ...] = ()
    flops: float | None = None
    tokens: int | None = None
    mfu: float | None = None
    money: float | None = None
    energy_j: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def total_s(self) -> float:
        """Wall seconds over all categories."""
        return sum(self.seconds.values())

    @property
    def has_run(self) -> bool:
        """Whether it has ever begun."""
        return self.status != "not run"


@dataclass(frozen=True)
class Sample:
    """A prompt, and how the pre-trained model went on."""

    prompt: str
    text: str


@dataclass(frozen=True)
class PretrainReport:
    """What pre-training gave; losses in nats a token, on the train and validation splits, and further held-out sets."""

    stage: str
    train: Curve
    validation: Curve
    facts: Mapping[str, Scalar]
    held_out: Mapping[str, Curve] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()
    train_loss: float | None = None
    validation_loss: float | None = None
    unigram_loss: float | None = None


@dataclass(frozen=True)
class TrialReport:
    """One fine-tuning trial, as its record has it.

    Attributes:
        curve: The validation metric of the search, by step.
        device_seconds: For which it held devices.
        best: The best value of the curve, that of its model.
        cause: Why it failed, in a word.
        on_front: Whether none is better in both of two objectives.
        validation: Figures of the shared evaluation job, where it judged the trial.
    """

    id: str
    status: str
    config: Mapping[str, Scalar]
    curve: Curve
    seed: int | None = None
    num_steps: int | None = None
    seconds: float | None = None
    device_seconds: float | None = None
    best: float | None = None
    cause: str | None = None
    error: str = ""
    chosen: bool = False
    on_front: bool = False
    validation: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class JudgedModel:
    """One line of the leaderboard; `test` is empty for a model whose test split was never opened.

    Attributes:
        about: What there is to say of it besides, in words.
        distinguishable: Whether its interval of the difference to the chosen one, on validation, excludes zero.
    """

    name: str
    kind: Literal["chosen", "trial", "baseline"]
    about: str = ""
    distinguishable: bool | None = None
    validation: Mapping[str, Interval] = field(default_factory=dict)
    test: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchReport:
    """The trials of a `tune` stage.

    Attributes:
        metric: That of the trials' curves.
        judged_by: That by which the evaluation chose among them, where there is one.
        closed: Whether no more trials will come.
        ended_by: What ended the search before all its trials had.
        importance: By key of the search, the share of it in what trials are worth, where there are enough of them.
    """

    stage: str
    trials: tuple[TrialReport, ...] = ()
    metric: str = "macro_f1"
    judged_by: str = "macro_f1"
    closed: bool = False
    ended_by: str | None = None
    importance: Mapping[str, float] = field(default_factory=dict)

    @property
    def settings(self) -> tuple[str, ...]:
        """Keys in which trials may differ."""
        return tuple(dict.fromkeys(key for trial in self.trials for key in trial.config))


@dataclass(frozen=True)
class EvaluationReport:
    """The verdict of an `evaluate` run on one labelled set.

    Attributes:
        stage: The run's name in the pipeline; of an evaluation of several sets each has its own.
        metric: The metric that chose, and that the leaderboard shows first.
        differences: `chosen - majority` and the like, on the test split, by metric.
        lower_is_better: Metrics of which the lower value is the better one.
        notes: What a reader must know to judge the figures.
        closer: Where the chosen model is right, and what lm-evaluation-harness says.
    """

    stage: str
    metric: str = "macro_f1"
    chosen: str | None = None
    judged: tuple[JudgedModel, ...] = ()
    differences: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    lower_is_better: tuple[str, ...] = ()
    suite: Mapping[str, Scalar] = field(default_factory=dict)
    num_test_looks: int | None = None
    notes: tuple[str, ...] = ()
    closer: CloserLook = field(default_factory=CloserLook)

    @property
    def winner(self) -> JudgedModel | None:
        """The chosen model's line."""
        return next((judged for judged in self.judged if judged.kind == "chosen"), None)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric of the leaderboard, the choosing one first."""
        return tuple(dict.fromkeys((self.metric, *(m for j in self.judged for m in (*j.validation, *j.test)))))

    @property
    def gains(self) -> Mapping[str, Interval]:
        """What the chosen model is ahead of each baseline by the choosing metric."""
        return {name: of[self.metric] for name, of in self.differences.items() if self.metric in of}

    @property
    def of_slices(self) -> list[str]:
        """Metrics of slices, the choosing one first: as many as stand side by side on a page."""
        there = {metric for part in self.closer.slices for metric in part.metrics}
        return [metric for metric in self.metrics if metric in there][:4]


@dataclass(frozen=True)
class Dropped:
    """So many things that a stage left out, and why."""

    stage: str
    reason: str
    count: int


@dataclass(frozen=True)
class PipelineReport:
    """Everything the page shows.

    Attributes:
        stages: All runs, those first that others begin with.
        passports: What is in each corpus, by the stage that prepared it.
        problems: Records that are there but cannot be read, each with its place.
    """

    pipeline: str
    stages: tuple[StageReport, ...]
    pretrainings: tuple[PretrainReport, ...] = ()
    searches: tuple[SearchReport, ...] = ()
    evaluations: tuple[EvaluationReport, ...] = ()
    passports: Mapping[str, DataPassport] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def dropped(self) -> tuple[Dropped, ...]:
        """Every count of something left out, in the order of the stages."""
        return tuple(
            Dropped(stage.stage, reason, count) for stage in self.stages for reason, count in stage.dropped.items()
        )

    @property
    def wall_s(self) -> float:
        """Seconds in which at least one of the runs was at work."""
        total, until = 0.0, float("-inf")
        for start, end in sorted(span for stage in self.stages for span in stage.spans):
            total += max(0.0, end - max(start, until))
            until = max(until, end)
        return total

    def stage(self, name: str) -> StageReport:
        """The stage of this name, run or not.

        Raises:
            KeyError: For a name that no stage has.
        """
        return {stage.stage: stage for stage in self.stages}[name]

    def absent(self, job: str) -> list[StageReport]:
        """The stages that do this and have not run."""
        return [stage for stage in self.stages if stage.job == job and not stage.has_run]
