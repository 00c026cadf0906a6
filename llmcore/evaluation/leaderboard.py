"""Which model is best, which cannot be told from it, and why the others are not in the running."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmcore.evaluation.bootstrap import Measured, distinguishable_from_first
from llmcore.evaluation.results import Evaluation
from llmcore.evaluation.suite import Suite

__all__ = ["Entry", "Leaderboard", "rank"]


@dataclass(frozen=True)
class Entry:
    """One trial: judged, or listed with what went wrong.

    Attributes:
        id: Name of the trial, `<search>/<trial>`.
        status: finished, stopped or failed.
        validation: Its result on the validation split; None without a model.
        error: What went wrong, of a failed trial.
        settings: The values that the search gave it, by dotted key.
        num_steps: Optimizer steps of the judged model.
        barred: Why it may not be chosen though it was judged; None where it may.
    """

    id: str
    status: str
    validation: Evaluation | None
    error: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    num_steps: int | None = None
    barred: str | None = None

    @property
    def eligible(self) -> bool:
        """Whether it may be chosen: judged, not failed, and not barred."""
        return self.validation is not None and self.status != "failed" and self.barred is None

    @property
    def why_not(self) -> str:
        """What went wrong, or why it may not be chosen, in one line; empty where neither is so."""
        return " ".join((self.error or self.barred or "").split())


@dataclass(frozen=True)
class Leaderboard:
    """Entries, best first; behind those that may be chosen, failed ones.

    Attributes:
        entries: All trials; none is left out.
        distinguishable: For each eligible entry but the leader, whether the leader is better by more than the largest
            difference of two of all eligible ones comes to by chance: the leader was chosen among them on these rows.
    """

    entries: list[Entry]
    distinguishable: dict[str, bool]

    @property
    def leader(self) -> Entry | None:
        """The entry chosen; None when no entry may be."""
        return self.entries[0] if self.entries and self.entries[0].eligible else None

    @property
    def runner_up(self) -> Entry | None:
        """The next one that could have been chosen, where there is one; not the leader's point with another seed."""
        others = [entry for entry in self.entries[1:] if entry.eligible]
        if self.leader is None or not others:
            return None
        point = _point(self.leader)
        return next((entry for entry in others if not point or _point(entry) != point), others[0])

    def to_csv(
        self,
        suite: Suite,
        test: dict[str, Evaluation],
        harness: Mapping[str, Mapping[str, Any]] | None = None,
        bias: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> str:
        """One line an entry: rank, validation and test metrics with their intervals, settings, error.

        Args:
            suite: The suite that judged them.
            test: Results on the test split, of the entries for which it was opened, by entry id.
            harness: By entry id and task, what lm-evaluation-harness says (`evaluation.harness.harness_json`).
            bias: By entry id and set, what published sets say of its bias (`bias.told.bias_json`).
        """
        beside = _beside(harness or {}, bias or {})
        settings = sorted({key for entry in self.entries for key in entry.settings})
        figures = [
            f"{split}_{metric.name}{end}"
            for split in ("validation", "test")
            for metric in suite.all_metrics()
            for end in ("", "_low", "_high")
        ]
        stream = io.StringIO()
        further = dict.fromkeys(column for entry in self.entries for column in beside.get(entry.id, {}))
        columns = ["rank", "id", "status", "num_steps", *figures, "distinguishable_from_leader", *further]
        columns += [*settings, "error"]
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        for position, entry in enumerate(self.entries, start=1):
            writer.writerow(
                {
                    "rank": position if entry.eligible else "",
                    "id": entry.id,
                    "status": entry.status,
                    "num_steps": entry.num_steps,
                    **_figures("validation", entry.validation),
                    **_figures("test", test.get(entry.id)),
                    "distinguishable_from_leader": self.distinguishable.get(entry.id, ""),
                    **beside.get(entry.id, {}),
                    **entry.settings,
                    "error": entry.why_not,
                }
            )
        return stream.getvalue()


def _point(entry: Entry) -> dict[str, Any]:
    """What the search gave it, but for the seed."""
    return {key: value for key, value in entry.settings.items() if key != "train.seed"}


def rank(entries: Sequence[Entry], suite: Suite) -> Leaderboard:
    """Entries by the suite's choosing metric on validation, the best first; ties by id."""
    metric = suite.choosing_metric()
    sign = -1.0 if metric.higher_is_better else 1.0

    def order(entry: Entry) -> tuple[bool, float, str]:
        worth = sign * entry.validation.metrics[metric.name].value if entry.validation else float("inf")
        return (not entry.eligible, worth, entry.id)

    ranked = sorted(entries, key=order)
    judged = [(entry, entry.validation) for entry in ranked if entry.eligible and entry.validation is not None]
    if len(judged) < 2:
        return Leaderboard(ranked, {})
    measured = [Measured.of([metric], validation.predictions()) for _, validation in judged]
    apart = distinguishable_from_first(measured, metric.name, suite.resampling)
    return Leaderboard(ranked, {entry.id: one for (entry, _), one in zip(judged[1:], apart, strict=True)})


def _figures(split: str, evaluation: Evaluation | None) -> dict[str, float]:
    if evaluation is None:
        return {}
    return {
        f"{split}_{metric}{end}": number
        for metric, interval in evaluation.metrics.items()
        for end, number in (("", interval.value), ("_low", interval.low), ("_high", interval.high))
    }


def _beside(
    harness: Mapping[str, Mapping[str, Any]], bias: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, float | None]]:
    """By model, the figures that stand beside our own."""
    asked = {name: _harness_figures(tasks) for name, tasks in harness.items()}
    measured = {name: _bias_figures(sets) for name, sets in bias.items()}
    return {name: {**asked.get(name, {}), **measured.get(name, {})} for name in {**asked, **measured}}


def _harness_figures(tasks: Mapping[str, Any]) -> dict[str, float | None]:
    return {
        f"harness_{task}_{metric}{end}": figure[part]
        for task, about in tasks.items()
        for metric, figure in about["metrics"].items()
        for end, part in (("", "value"), ("_stderr", "stderr"))
    }


def _bias_figures(sets: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    return {
        f"bias_{name}_{figure}{end}": number[part]
        for name, told in sets.items()
        for figure, number in told["figures"].items()
        for end, part in (("", "value"), ("_low", "low"), ("_high", "high"))
    }
