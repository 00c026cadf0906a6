"""Where a model is good and where it is not: its metrics by length, by label, and by what else is known of rows."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from llmcore.evaluation.bootstrap import Measured, Resampling
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.metrics.base import Ints

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["slice_rows", "slices_json"]

_LENGTHS = (0, 16, 32, 64, 128, 256, 512)
"""Where the bins of lengths begin, in words."""

_MOST = 20
"""Values of a metadata column that are slices of their own; rows of all rarer ones are one slice together."""

OTHER = "(others)"


def slice_rows(subject: Subject, rows: "pa.Table") -> dict[str, dict[str, Ints]]:
    """Indices of the rows of each slice, by what it is sliced by: `length`, `label`, and each metadata column.

    Args:
        subject: The kind of set.
        rows: Of the labelled set, with their inputs. Rows of several labels are in the slice of each.
    """
    slices = {"length": _by_length(subject, rows)} | {
        name: _by_value(rows[name].to_pylist()) for name in subject.metadata(rows)
    }
    if subject.label_names:
        slices["label"] = _by_label(subject, rows)
    return slices


def slices_json(
    slices: Mapping[str, Mapping[str, Ints]], measured: Measured, resampling: Resampling
) -> dict[str, dict[str, Any]]:
    """Plain JSON: by what it is sliced by and the slice's name, its numbers of rows and groups, and its metrics.

    A slice of one group has values without an interval. A metric that a slice does not define is left out of it.
    """
    return {by: _slice_json(parts, measured, resampling) for by, parts in slices.items()}


def _slice_json(parts: Mapping[str, Ints], measured: Measured, resampling: Resampling) -> dict[str, Any]:
    num_groups = {name: len(np.unique(measured.groups[index])) for name, index in parts.items()}
    several = {name: index for name, index in parts.items() if num_groups[name] > 1}
    metrics: dict[str, dict[str, dict[str, float]]] = {
        name: {metric: interval.to_json() for metric, interval in intervals.items()}
        for name, intervals in measured.part_intervals(several, resampling).items()
    }
    for name in parts.keys() - several.keys():
        values = measured.values(parts[name])
        metrics[name] = {metric: {"value": value} for metric, value in values.items() if not np.isnan(value)}
    return {
        name: {"num_rows": len(index), "num_groups": num_groups[name], "metrics": metrics[name]}
        for name, index in parts.items()
    }


def _by_length(subject: Subject, rows: "pa.Table") -> dict[str, Ints]:
    ends = (*(f"-{begin - 1}" for begin in _LENGTHS[1:]), " or more")
    names = [f"{begin}{end} words" for begin, end in zip(_LENGTHS, ends, strict=True)]
    place = np.searchsorted(_LENGTHS, subject.input_words(rows), side="right") - 1
    return _parts((name, place == number) for number, name in enumerate(names))


def _by_label(subject: Subject, rows: "pa.Table") -> dict[str, Ints]:
    column = rows["labels" if subject.multi_label else "label"].to_pylist()
    labels = [set(one) if subject.multi_label else {one} for one in column]
    return _parts((name, [number in one for one in labels]) for number, name in enumerate(subject.label_names))


def _by_value(values: list[str | None]) -> dict[str, Ints]:
    names, counts = np.unique([value or "" for value in values], return_counts=True)
    frequent = sorted(names[np.argsort(-counts, kind="stable")][:_MOST])
    parts = _parts((str(name), [(value or "") == name for value in values]) for name in frequent)
    rest = np.flatnonzero(~np.isin([value or "" for value in values], frequent))
    return parts | ({OTHER: rest} if len(rest) else {})


def _parts(masks: Iterable[tuple[str, Any]]) -> dict[str, Ints]:
    """Indices of the rows of each mask that has any."""
    found = {name: np.flatnonzero(mask) for name, mask in masks}
    return {name: index for name, index in found.items() if len(index)}
