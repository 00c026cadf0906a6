"""Numbers as a reader wants them, and the result in sentences that claim no more than the intervals allow."""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from llmcore.evaluation.bootstrap import Interval
from llmcore.report.model import EvaluationReport, PipelineReport

__all__ = [
    "DASH",
    "MINUS",
    "bought_by_pretraining",
    "count",
    "duration",
    "energy",
    "figure",
    "flops",
    "headline",
    "interval",
    "measured",
    "moment",
    "plain",
    "signed",
]

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
_METRICS = {
    "macro_f1": "macro\N{NO-BREAK SPACE}F1",
    "micro_f1": "micro\N{NO-BREAK SPACE}F1",
    "roc_auc": "ROC\N{NO-BREAK SPACE}AUC",
    "bleu": "BLEU",
    "chrf": "chrF",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "bits_per_byte": "bits a byte",
}
_UNTRAINED = ("majority", "copy_source", "lead_3")
"""Baselines that the first sentence compares with: the one that the kind of task has."""
_NOT_MEASURED = "Whether pre-training helped was not measured: no baseline from random weights was judged."
_SCALES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def plain(name: str) -> str:
    """A key of the records as words: `data_wait` is "data wait", `num_steps` is "steps", `macro_f1` is "macro F1"."""
    return _METRICS.get(name, name.removeprefix("num_").replace("_", " ").replace(" - ", f" {MINUS} "))


def measured(column: str) -> str:
    """A column of metrics as words, its metric by its own name: `validation_macro_f1` is "validation macro F1"."""
    split = "validation_" if column.startswith("validation_") else ""
    return f"{plain(split)}{plain(column.removeprefix(split))}"


def figure(value: float | None, digits: int = 3) -> str:
    """A number to so many decimals; a dash where there is none."""
    return DASH if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float, digits: int = 3) -> str:
    """A difference, its sign always shown."""
    return f"{value:+.{digits}f}".replace("-", MINUS)


def interval(of: Interval, *, difference: bool = False) -> str:
    """ "0.512 to 0.634": the ends of an interval, signed where it is of a difference."""
    show = signed if difference else figure
    return f"{show(of.low)} to {show(of.high)}"


def count(value: float | None) -> str:
    """A whole number with separated thousands; a dash where there is none."""
    return DASH if value is None else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """Seconds as they are under two minutes, then minutes or hours; a dash where there is none."""
    if seconds is None:
        return DASH
    if seconds < 119.95:
        return f"{seconds:.1f} s"
    if seconds < 7199.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02d} s"
    hours, rest = divmod(round(seconds / 60), 60)
    return f"{hours} h {rest:02d} min"


def moment(unix_s: float | None) -> str:
    """A point in time, to the second, UTC; nothing where there is none."""
    return "" if unix_s is None else f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M:%S} UTC"


def flops(value: float | None) -> str:
    """Floating-point operations to three digits, with their prefix: 4.12e13 is "41.2 TFLOP"."""
    return _with_prefix(value, "FLOP")


def energy(joules: float | None) -> str:
    """To three digits, with its prefix: 4.12e6 is "4.12 MJ"."""
    return _with_prefix(joules, "J")


def _with_prefix(value: float | None, unit: str) -> str:
    if value is None:
        return DASH
    scale, prefix = next(((s, p) for s, p in _SCALES if abs(value) >= s), (1.0, ""))
    scaled = value / scale
    digits = max(0, 2 - math.floor(math.log10(abs(scaled)))) if scaled else 0
    return f"{scaled:.{digits}f} {prefix}{unit}"


def headline(report: PipelineReport) -> str:
    """The result: of each labelled set, in one sentence, the chosen model on the held-out test split."""
    judged = [one for one in report.evaluations if one.winner is not None and one.metric in one.winner.test]
    if not judged:
        return _unfinished(report)
    return _of_each(report, judged, _result)


def bought_by_pretraining(report: PipelineReport) -> str:
    """What pre-training gave over random weights at equal fine-tuning: of each labelled set, in one sentence."""
    judged = [one for one in report.evaluations if one.winner is not None]
    return _of_each(report, judged, _bought) if judged else _NOT_MEASURED


def _of_each(
    report: PipelineReport, judged: Sequence[EvaluationReport], told: Callable[[EvaluationReport], str]
) -> str:
    """A line for each evaluation, its name before it where there are several."""
    if len(report.evaluations) == 1:
        return told(judged[0])
    return "\n".join(f"{one.stage}: {told(one)}" for one in judged)


def _result(judged: EvaluationReport) -> str:
    assert judged.winner is not None
    metric, result = plain(judged.metric), judged.winner.test[judged.metric]
    lower = " (lower is better)" if judged.metric in judged.lower_is_better else ""
    sentence = f"The chosen model reaches {metric} {figure(result.value)}{lower} on the held-out test split"
    gains = {name: _difference(judged.differences, name, judged.metric) for name in _UNTRAINED}
    found = next(((name, gain) for name, gain in gains.items() if gain is not None), None)
    if found is None:
        return f"{sentence}; it was compared with no baseline that learns nothing."
    baseline, gain = f"the {found[0].replace('_', '-')} baseline", found[1]
    if gain.low > 0:
        return f"{sentence}, {figure(gain.value)} above {baseline}."
    if gain.high < 0:
        return f"{sentence}, {figure(-gain.value)} below {baseline}."
    return f"{sentence}, which is not distinguishable from {baseline}."


def _bought(judged: EvaluationReport) -> str:
    """In as many words as the interval allows."""
    gain = _difference(judged.differences, "random_weights", judged.metric)
    if gain is None:
        return _NOT_MEASURED
    metric = plain(judged.metric)
    ends = f"{signed(gain.value)} {metric}, 95 % interval {interval(gain, difference=True)}"
    better, worse = gain.low > 0, gain.high < 0
    if judged.metric in judged.lower_is_better:
        better, worse = worse, better
    if better:
        return f"Pre-training helped: against the same architecture fine-tuned from random weights it gave {ends}."
    if worse:
        return f"Pre-training hurt: the same architecture fine-tuned from random weights did better ({ends})."
    return (
        "Pre-training made no distinguishable difference: against the same architecture fine-tuned from random "
        f"weights it gave {ends}, and the interval holds zero."
    )


def _difference(differences: Mapping[str, Mapping[str, Interval]], baseline: str, metric: str) -> Interval | None:
    return differences.get(f"chosen - {baseline}", {}).get(metric)


def _unfinished(report: PipelineReport) -> str:
    for stage in report.stages:
        if stage.status != "succeeded":
            state = "has not run" if stage.status == "not run" else f"stands at “{stage.status}”"
            return f"There is no result yet: {stage.stage} {state}."
    # Of one model by one figure there may be several lines, by as many sets.
    measured = dict.fromkeys(line.model for one in report.evaluations for line in one.closer.bias)
    if measured:
        return f"Nothing was to be chosen: the bias of {', '.join(measured)} was measured."
    return "There is no result: the evaluation chose no model."
