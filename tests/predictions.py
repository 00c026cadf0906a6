"""Tables of predictions, made by hand, and their metrics."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from llmcore.evaluation.bootstrap import Measured
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.metrics import make_metrics


def rows_of(groups: Sequence[Any] | None = None, **columns: Any) -> pa.Table:
    """A table of predictions: ids are the numbers of the rows; each is a group of its own where none are given."""
    plain = {name: list(values) for name, values in columns.items()}
    num_rows = len(next(iter(plain.values())))
    given = range(num_rows) if groups is None else groups
    names = [group if isinstance(group, str) else f"{group:04}" for group in given]
    return pa.table({"id": [str(row) for row in range(num_rows)], "group": names, **plain})


def classes(num: int, *, multi_label: bool = False) -> Subject:
    """Classification into so many classes."""
    return Subject("text_classification", tuple(f"c{index}" for index in range(num)), multi_label)


def value(subject: Subject, name: str, rows: pa.Table) -> float:
    """One metric of all rows."""
    return values(subject, [name], rows)[name]


def values(subject: Subject, names: Sequence[str], rows: pa.Table) -> dict[str, float]:
    """Metrics of all rows; NaN where undefined."""
    return Measured.of(make_metrics(subject, names), rows).values()
