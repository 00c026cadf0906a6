"""The judged models, seen closer: where the chosen one is right; and what others' tasks and sets say of all."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from llmcore.evaluation.bias_board import BiasLine, bias_differences, bias_lines
from llmcore.report.recorded import BiasRecord, EvaluationRecord, FiguresRecord, MeasuredRecord

__all__ = ["CalibrationBin", "CloserLook", "HarnessLine", "Slice", "closer_look"]

_MOST_CLASSES = 12
"""As many as a table on a page can tell apart."""
_NONE = "none"


@dataclass(frozen=True)
class Slice:
    """Rows of the test split that have something in common, and the chosen model's figures on them."""

    by: str
    name: str
    num_rows: int
    metrics: Mapping[str, MeasuredRecord]


@dataclass(frozen=True)
class CalibrationBin:
    """Rows of which the model is about as sure: how many, how sure on average, and the share that is right."""

    num: int
    confidence: float
    right: float


@dataclass(frozen=True)
class HarnessLine:
    """A model by a metric of a task; `stderr` is None where the harness has none."""

    task: str
    metric: str
    model: str
    value: float | None
    stderr: float | None
    num_fewshot: int | None
    num_rows: int | None
    version: str


@dataclass(frozen=True)
class CloserLook:
    """Empty where there is nothing of a kind.

    Attributes:
        slices: Of the chosen model, by what they are sliced by, in order.
        classes: What a prediction may be; the last is `none` where text named no class.
        confusion: Rows, by true class and by what was predicted.
        num_classes: How many there are, also where they are too many to be shown.
        calibration: Of the chosen model.
        no_answer_threshold: By exact match and F1, the score above which no answer is best; None: for no row.
        undefined: Metrics that the chosen model's predictions do not define, and why.
        harness: By task, metric, then model, the better one first.
        harness_version: Its release.
        bias: By set, figure, then model, the fairer one first.
        bias_rows: By set, how many rows were measured of how many.
        bias_left_out: By model that cannot be measured so, why not.
        bias_against: The model that the others are held against; empty where none is.
        bias_differences: By set and figure, what each of the others' is less that one's, of the same rows.
    """

    slices: tuple[Slice, ...] = ()
    classes: tuple[str, ...] = ()
    confusion: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    num_classes: int = 0
    calibration: tuple[CalibrationBin, ...] = ()
    no_answer_threshold: Mapping[str, float | None] = field(default_factory=dict)
    undefined: Mapping[str, str] = field(default_factory=dict)
    harness: tuple[HarnessLine, ...] = ()
    harness_version: str = ""
    bias: tuple[BiasLine, ...] = ()
    bias_rows: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    bias_left_out: Mapping[str, str] = field(default_factory=dict)
    bias_against: str = ""
    bias_differences: tuple[BiasLine, ...] = ()


def closer_look(evaluation: EvaluationRecord) -> CloserLook:
    """From the record of an evaluation."""
    harness, bias = evaluation.harness, evaluation.bias or BiasRecord()
    look = CloserLook(
        harness=tuple(_harness_lines(evaluation)),
        harness_version=harness.version if harness else "",
        bias=tuple(bias_lines(bias.model_dump())),
        bias_rows={name: (one.num_rows, one.num_rows_of_set) for name, one in bias.sets.items()},
        bias_left_out=bias.left_out,
        bias_against=bias.against or "",
        bias_differences=tuple(bias_differences(bias.model_dump())),
    )
    details = evaluation.details.get(evaluation.chosen or "")
    if details is None:
        return look
    names = tuple(str(name) for name in evaluation.set.get("label_names") or ())
    classes, confusion = _confusion(names, details.figures)
    return replace(
        look,
        slices=tuple(
            Slice(by, name, part.num_rows, part.metrics)
            for by, parts in details.slices.items()
            for name, part in parts.items()
        ),
        classes=classes,
        confusion=confusion,
        num_classes=len(names) if details.figures.confusion else 0,
        calibration=tuple(CalibrationBin(one.num, one.confidence, one.right) for one in details.figures.calibration),
        no_answer_threshold=details.figures.no_answer_threshold,
        undefined=details.undefined,
    )


def _confusion(names: tuple[str, ...], figures: FiguresRecord) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]]]:
    """What may be predicted, and the counts of it by true class."""
    cells = {(true, predicted): count for true, predicted, count in figures.confusion}
    if not cells or len(names) > _MOST_CLASSES:
        return (), {}
    predicted = [*range(len(names)), *([-1] if any(one == -1 for _, one in cells) else [])]
    rows = {
        name: tuple(cells.get((true, one), 0) for one in predicted)
        for true, name in enumerate(names)
    }  # fmt: skip
    return (*names, *([_NONE] if -1 in predicted else [])), rows


def _harness_lines(evaluation: EvaluationRecord) -> Iterator[HarnessLine]:
    if evaluation.harness is None:
        return
    found = [
        (task, metric, model, about, figure)
        for model, tasks in evaluation.harness.models.items()
        for task, about in tasks.items()
        for metric, figure in about.metrics.items()
    ]

    def order(one: tuple[str, str, str, object, MeasuredRecord]) -> tuple[str, str, bool, float, str]:
        task, metric, model, _, figure = one
        sign = 1.0 if figure.higher_is_better is False else -1.0
        return task, metric, figure.value is None, sign * (figure.value or 0.0), model

    for task, metric, model, about, figure in sorted(found, key=order):
        version = "" if about.version is None else str(about.version)
        yield HarnessLine(task, metric, model, figure.value, figure.stderr, about.num_fewshot, about.num_rows, version)
