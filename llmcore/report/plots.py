"""Which columns of metrics are drawn, together with which others, and what their axes are called."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from llmcore.report.curves import RunCurves
from llmcore.report.model import Curve
from llmcore.report.words import measured, plain

__all__ = ["AXES", "Axis", "Plot", "compared_columns", "heading_of", "label_of", "plots_of"]

_VALIDATION = "validation_"
_SHARE = "_fraction"
_IS_LOSS = re.compile(r"(validation_(.+_)?)?loss")
_UNITS = {
    "grad_norm": "norm of the gradient",
    "tokens_per_s": "tokens a second",
    "mfu": "MFU, share of the peak",
    "bits_per_byte": "bits a byte",
    "accuracy": "accuracy (0 to 1)",
}
_HEADINGS = {"grad_norm": "gradient", "tokens_per_s": "speed", "mfu": "MFU"}
_COURSE = ("learning_rate", "grad_norm", "tokens_per_s", "mfu")
"""How training went, besides what it reached."""
_MOST_COMPARED = 6
"""As many metrics as are drawn side by side, three drawings each; all others are in the records."""


class Axis(NamedTuple):
    """What curves are drawn over: its label, and in a sentence."""

    name: str
    label: str
    over: str


AXES = (
    Axis("steps", "step", "over steps"),
    Axis("tokens", "tokens seen", "over tokens"),
    Axis("device-seconds", "device-seconds of training", "over device-seconds"),
)


class Plot(NamedTuple):
    """Curves of one unit: `heading` says what they are, `label` is that of the y axis, and each curve has its name."""

    name: str
    heading: str
    label: str
    curves: Mapping[str, Curve]


def label_of(column: str, kind: str) -> str:
    """The y axis of a column, with its unit, in a run of this kind: losses of pre-training are of tokens."""
    if _IS_LOSS.fullmatch(column):
        return "loss, nats a token" if kind == "pretrain" else "loss, nats"
    if column.endswith(_SHARE):
        return "share of the time"
    metric = column.removeprefix(_VALIDATION)
    name = _UNITS.get(metric, plain(metric))
    return f"{name}, validation" if metric != column else name


def heading_of(column: str) -> str:
    """What a column tells, as a heading."""
    name = _HEADINGS.get(column, measured(column))
    return name[:1].upper() + name[1:]


def plots_of(curves: RunCurves, kind: str) -> Iterator[Plot]:
    """Of one run: its losses together, each metric of validation, and how training went."""
    metrics = curves.metrics
    if losses := {_named(column): metrics[column] for column in metrics if _is_loss(column)}:
        yield Plot("loss", "Loss", label_of("loss", kind), losses)
    for column in _validated(metrics):
        same = {"train": column.removeprefix(_VALIDATION), "validation": column}
        both = {name: metrics[one] for name, one in same.items() if one in metrics}
        yield Plot(column, heading_of(column), label_of(column, kind), both)
    for column in _COURSE:
        if column in metrics:
            yield Plot(column, heading_of(column), label_of(column, kind), {plain(column): metrics[column]})
    if shares := {plain(one.removesuffix(_SHARE)): metrics[one] for one in metrics if one.endswith(_SHARE)}:
        yield Plot("shares", "Where the time of a step went", label_of(_SHARE, kind), shares)


def compared_columns(runs: Iterable[RunCurves]) -> list[str]:
    """What is drawn of several runs, each for itself: losses and metrics of validation that any of them has."""
    metrics = dict.fromkeys(column for curves in runs for column in curves.metrics)
    losses = [column for column in ("validation_loss", "loss") if column in metrics]
    return [*losses, *_validated(metrics)][:_MOST_COMPARED]


def _is_loss(column: str) -> bool:
    return bool(_IS_LOSS.fullmatch(column)) and "next_sentence" not in column


def _validated(columns: Iterable[str]) -> list[str]:
    """Metrics of validation that are no losses."""
    of = [one for one in columns if one.startswith(_VALIDATION) and not one.endswith(_SHARE)]
    return [one for one in of if not _IS_LOSS.fullmatch(one)]


def _named(column: str) -> str:
    """What a loss is of: train, validation, or the name of a further held-out set."""
    of = column.removesuffix("loss").removesuffix("_")
    return plain(of.removeprefix(_VALIDATION)) if of else "train"
