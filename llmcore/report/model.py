"""What a report says of a pipeline: plain typed values, gathered from the records and drawn by the page."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from llmcore.evaluation.bootstrap import Interval
from llmcore.report.closer import CloserLook
from llmcore.report.passport import DataPassport

__all__ = [
    "BASELINE_NAMES",
    "STAGES",
    "TWIN",
    "Scalar",
    "Curve",
    "Dropped",
    "Fit",
    "JudgedModel",
    "PipelineReport",
    "PretrainReport",
    "Sample",
    "StageReport",
    "TrialReport",
]

Scalar = str | int | float | bool | None
STAGES = ("prepare", "pretrain", "tune", "evaluate")
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
        status: As `jobs runs` says it, or `not run`.
        started: Start of the first attempt, UTC.
        seconds: Wall seconds by category of the ledger; `lost` is of attempts that were killed and left no ledger.
        device_seconds: The same, times the devices held.
        fits: Start-up by part, one for each start of workers.
        spans: Start and end of each attempt, Unix time; stages run side by side, and attempts apart.
        flops: Floating-point operations of the models; None where the stage counts none.
        counts: What went through the stage, by name.
        dropped: What the stage left out, by reason.
    """

    stage: str
    run: str
    status: str = "not run"
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
class Dropped:
    """So many things that a stage left out, and why."""

    stage: str
    reason: str
    count: int


@dataclass(frozen=True)
class PipelineReport:
    """Everything the page shows.

    Attributes:
        metric: The metric that chose, and that the leaderboard shows first.
        search_metric: The metric of the trials' curves.
        differences: `chosen - majority` and the like, on the test split, by metric.
        lower_is_better: Metrics of which the lower value is the better one.
        notes: What a reader must know to judge the figures.
        problems: Records that are there but cannot be read, each with its place.
        passport: What is in the corpus.
        importance: By key of the search, the share of it in what trials are worth, where there are enough of them.
        ended_by: What ended the search before all its trials had.
        closer: Where the chosen model is right, and what lm-evaluation-harness says.
    """

    pipeline: str
    stages: tuple[StageReport, ...]
    pretrain: PretrainReport | None = None
    trials: tuple[TrialReport, ...] = ()
    search_closed: bool = False
    importance: Mapping[str, float] = field(default_factory=dict)
    ended_by: str | None = None
    metric: str = "macro_f1"
    search_metric: str = "macro_f1"
    chosen: str | None = None
    judged: tuple[JudgedModel, ...] = ()
    differences: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    lower_is_better: tuple[str, ...] = ()
    suite: Mapping[str, Scalar] = field(default_factory=dict)
    num_test_looks: int | None = None
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    passport: DataPassport = field(default_factory=DataPassport)
    closer: CloserLook = field(default_factory=CloserLook)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric of the leaderboard, the choosing one first."""
        seen = dict.fromkeys((self.metric, *(m for j in self.judged for m in (*j.validation, *j.test))))
        return tuple(seen)

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
