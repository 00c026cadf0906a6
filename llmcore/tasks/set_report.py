"""What is in a labelled set: how many rows, how long, of which classes, how often the same; counted row by row."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from llmcore.tasks.columns import SetColumns

__all__ = ["SplitReport", "report_lines"]

_HIGH = 0.95


@dataclass
class SplitReport:
    """One split, counted; nothing of a row is kept but how many there are of its length.

    Attributes:
        columns: Those of the set.
        label_names: The classes; none where rows have none.
    """

    columns: SetColumns
    label_names: Sequence[str]
    num_rows: int = 0
    without_answer: int = 0
    lengths: dict[str, Counter[int]] = field(default_factory=dict)
    labels: Counter[int] = field(default_factory=Counter)
    duplicates: Counter[str] = field(default_factory=Counter)

    def add(self, row: Mapping[str, Any], seen_in: str | None) -> None:
        """Count a row, whose inputs were `seen_in` a split before, or nowhere."""
        self.num_rows += 1
        if seen_in is not None:
            self.duplicates[seen_in] += 1
        for column in self.columns.columns:
            value = row[column.name]
            match column.shape:
                case "text":
                    length = len(value)
                case "texts":
                    length = sum(map(len, value))
                case "messages":
                    length = sum(len(message["content"]) for message in value)
                case "number":
                    continue
                case "label":
                    self.labels[value] += 1
                    continue
                case "labels":
                    self.labels.update(value)
                    continue
                case "answers":
                    self.without_answer += not value
                    continue
            self.lengths.setdefault(column.name, Counter())[length] += 1

    def to_json(self) -> dict[str, Any]:
        """Rows; characters by column; rows by label; rows whose inputs stand before, by the split they stand in."""
        report: dict[str, Any] = {"num_rows": self.num_rows}
        report["characters"] = {name: _summary(lengths) for name, lengths in self.lengths.items()}
        if self.columns.has_labels:
            report["labels"] = {name: self.labels[index] for index, name in enumerate(self.label_names)}
        if any(column.shape == "answers" for column in self.columns.columns):
            report["without_answer"] = self.without_answer
        report["duplicates"] = dict(sorted(self.duplicates.items()))
        return report


def _summary(lengths: Counter[int]) -> dict[str, float]:
    """Mean and maximum, and the lengths that half and 95 % of the rows do not exceed."""
    ordered = sorted(lengths.items())
    total = lengths.total()
    reached = list(accumulate(number for _, number in ordered))

    def up_to(share: float) -> int:
        return next(length for (length, _), so_far in zip(ordered, reached, strict=True) if so_far >= share * total)

    mean = sum(length * number for length, number in ordered) / total
    return {"mean": round(mean, 1), "median": up_to(0.5), "p95": up_to(_HIGH), "max": ordered[-1][0]}


def report_lines(splits: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The JSON of each split, for a person."""
    for split, report in splits.items():
        lengths = (
            f"{name} {about['mean']:,.0f} characters on average, at most {about['max']:,}"
            for name, about in report["characters"].items()
        )
        parts = [f"{split}: {report['num_rows']:,} rows", *lengths]
        if labels := report.get("labels"):
            parts.append(", ".join(f"{name} {number / report['num_rows']:.1%}" for name, number in labels.items()))
        if without := report.get("without_answer"):
            parts.append(f"{without:,} without an answer")
        for seen_in, number in report["duplicates"].items():
            where = "in it before" if seen_in == split else f"in {seen_in}, too"
            parts.append(f"the inputs of {number:,} stand {where}")
        yield "; ".join(parts)
