"""What pre-training has bought: the points of a transfer as curves with intervals, and what they come to."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from math import isnan
from typing import TYPE_CHECKING, Any

from llmcore.config.transfer import WEIGHTS, Point, TransferConfig, Weights
from llmcore.cost.transfer import (
    BreakEven,
    BreakEvenBetween,
    Budgeted,
    EqualQuality,
    break_even,
    break_even_between,
    equal_qualities,
)
from llmcore.evaluation.bootstrap import Interval, Measured, Resampling, difference_intervals, metric_draws
from llmcore.evaluation.compared import Compared, validation_metrics
from llmcore.evaluation.kinds import Subject
from llmcore.storage import Folder, Manifest, read_manifest, read_verified
from llmcore.tasks import build_task, facts_of
from llmcore.tasks.evaluation_set import EvaluationSet

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "COSTS",
    "POINT",
    "PREDICTIONS",
    "Cell",
    "PretrainingCost",
    "TransferOutcome",
    "finished_points",
    "point_folder",
    "transfer_outcome",
]

POINT = "transfer-point"
"""Kind of a point's published record."""
PREDICTIONS = "predictions.parquet"
COSTS = ("device_seconds", "flops")
"""What a training is counted in."""
Budget = tuple[Weights, int, float]
"""Weights, labels and epochs."""


def point_folder(run: Folder, point: Point) -> Folder:
    """Where a point's record is."""
    return run / "points" / point.id


def finished_points(run: Folder, points: Sequence[Point]) -> dict[Point, Manifest]:
    """The points that have a good record."""
    found = {point: read_manifest(point_folder(run, point)) for point in points}
    return {point: manifest for point, manifest in found.items() if manifest is not None}


@dataclass(frozen=True)
class PretrainingCost:
    """What the pre-training has cost; None where nobody knows.

    Attributes:
        source: Where that is known from, or why it is not.
    """

    device_seconds: float | None
    flops: float | None
    source: str

    def of(self, cost: str) -> float | None:
        """By the name of a cost."""
        value: float | None = getattr(self, cost)
        return value


@dataclass(frozen=True)
class Cell:
    """A budget with one kind of weights, over its seeds.

    Attributes:
        weights: What it begins with.
        labels: Train rows.
        epochs: Passes over them.
        quality: The metric that is compared, the mean over seeds; its interval is of the validation rows.
        of_seeds: The same of each seed.
        metrics: All that is measured, as `quality`.
        device_seconds: Of its steps, mean over seeds.
        flops: The same.
        tokens: The same.
        num_steps: The same.
        energy_j: Joules of all of it, start-up and validation included, where the devices tell it; the same.
    """

    weights: Weights
    labels: int
    epochs: float
    quality: Interval
    of_seeds: tuple[float, ...]
    metrics: Mapping[str, Interval]
    device_seconds: float
    flops: float
    tokens: float
    num_steps: float
    energy_j: float | None = None

    @property
    def budget(self) -> "Budget":
        """What it is the cell of."""
        return self.weights, self.labels, self.epochs

    def cost(self, cost: str) -> float:
        """By the name of a cost."""
        value: float = getattr(self, cost)
        return value

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "weights": self.weights,
            "labels": self.labels,
            "epochs": self.epochs,
            "quality": self.quality.to_json(),
            "of_seeds": list(self.of_seeds),
            "metrics": {name: one.to_json() for name, one in self.metrics.items()},
            "device_seconds": self.device_seconds,
            "flops": self.flops,
            "tokens": self.tokens,
            "num_steps": self.num_steps,
            "energy_j": self.energy_j,
        }


@dataclass(frozen=True)
class TransferOutcome:
    """The result of a transfer.

    Attributes:
        name: Of the run.
        metric: What is compared, on the validation split.
        higher_is_better: Of two values of it, whether the higher one is the better one.
        num_rows: Of the validation split.
        cells: Of both kinds of weights, by labels and epochs.
        differences: Pre-trained minus random at equal budgets, by labels and epochs, both on the same draws.
        diverged: Points that came to nothing, and why; they stand on no curve.
        pretraining: What the pre-training has cost.
        draws: Of each cell, the metric in each draw of the validation rows, the same draws for all; NaN: undefined.
        about: What else a reader wants to know: base model, data.
    """

    name: str
    metric: str
    higher_is_better: bool
    num_rows: int
    cells: tuple[Cell, ...]
    differences: Mapping[tuple[int, float], Interval]
    diverged: Mapping[str, str]
    pretraining: PretrainingCost
    draws: Mapping[Budget, Sequence[float]] = field(default_factory=dict, repr=False, compare=False)
    about: Mapping[str, Any] = field(default_factory=dict)

    def of(self, weights: Weights) -> list[Cell]:
        """The cells of one kind of weights."""
        return [cell for cell in self.cells if cell.weights == weights]

    def by_labels(self) -> dict[float, list[EqualQuality]]:
        """For each number of epochs, the labels with which both reach the same quality, pre-trained first."""
        epochs = sorted({cell.epochs for cell in self.cells})
        return {one: self._equal(lambda cell: cell.labels, epochs=one) for one in epochs}

    def by_cost(self, cost: str) -> list[EqualQuality]:
        """The cost of a fine-tuning with which both reach the same quality, whatever labels and epochs it went to."""
        return self._equal(lambda cell: cell.cost(cost))

    def _equal(
        self,
        budget: Callable[[Cell], float],
        epochs: float | None = None,
        quality: Callable[[Cell], float] | None = None,
    ) -> list[EqualQuality]:
        """Of all cells, or those of so many epochs, by their quality; qualities are told as the metric has them."""
        sign = 1.0 if self.higher_is_better else -1.0
        first, second = (
            [
                Budgeted(budget(cell), sign * (quality(cell) if quality else cell.quality.value))
                for cell in self.of(one)
                if epochs in (None, cell.epochs)
            ]
            for one in WEIGHTS
        )
        found = equal_qualities(first, second)
        return [EqualQuality(sign * one.quality, one.first, one.second) for one in found]

    def paid_off(self, cost: str) -> BreakEven | None:
        """After how many tasks of the best quality that both reach the pre-training is paid for.

        None where its cost is not known, or no quality is reached by both.
        """
        equal, beforehand = self.by_cost(cost), self.pretraining.of(cost)
        return None if beforehand is None or not equal else break_even(beforehand, equal[-1].saving)

    def paid_off_between(self, cost: str) -> BreakEvenBetween | None:
        """The same with an interval of chance in the rows; costs are what they were. None as there.

        In each draw of the rows the best quality that both reach is another one, and read anew.
        """
        return self._between[cost]

    @cached_property
    def _between(self) -> dict[str, BreakEvenBetween | None]:
        return {cost: self._drawn(cost) for cost in COSTS}

    def _drawn(self, cost: str) -> BreakEvenBetween | None:
        beforehand = self.pretraining.of(cost)
        if beforehand is None or self.paid_off(cost) is None:
            return None
        found = []
        for values in zip(*self.draws.values(), strict=True):
            if not any(map(isnan, values)):
                of_draw = partial(_of_draw, dict(zip(self.draws, values, strict=True)))
                equal = self._equal(partial(_cost, cost=cost), quality=of_draw)
                found.append(break_even(beforehand, equal[-1].saving) if equal else BreakEven("open"))
        return break_even_between(found) if found else None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: `transfer.json`."""

        def told(found: Sequence[EqualQuality]) -> list[dict[str, Any]]:
            names = {"first": "pretrained", "second": "random"}
            return [{names.get(key, key): value for key, value in one.to_json().items()} for one in found]

        def paid(cost: str) -> dict[str, Any] | None:
            found, between = self.paid_off(cost), self.paid_off_between(cost)
            return found and found.to_json() | {"interval": between and between.to_json()}

        return {
            "name": self.name,
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "num_validation_rows": self.num_rows,
            "pretraining": {cost: self.pretraining.of(cost) for cost in COSTS} | {"source": self.pretraining.source},
            "cells": [cell.to_json() for cell in self.cells],
            "differences": [
                {"labels": labels, "epochs": epochs, **one.to_json()}
                for (labels, epochs), one in self.differences.items()
            ],
            "diverged": dict(self.diverged),
            "equal_by_labels": [{"epochs": one, "at": told(found)} for one, found in self.by_labels().items()],
            "equal_by_cost": {cost: told(self.by_cost(cost)) for cost in COSTS},
            "paid_off": {cost: paid(cost) for cost in COSTS},
            "about": dict(self.about),
        }

    def to_csv(self) -> str:
        """A line for each cell: `transfer.csv`."""
        buffer = io.StringIO()
        names = ["weights", "labels", "epochs", "value", "low", "high", "num_steps", "tokens", *COSTS, "energy_j"]
        writer = csv.DictWriter(buffer, names, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        for cell in self.cells:
            writer.writerow(cell.to_json() | cell.quality.to_json())
        return buffer.getvalue()


def _of_draw(drawn: Mapping[Budget, float], cell: Cell) -> float:
    return drawn[cell.budget]


def _cost(cell: Cell, *, cost: str) -> float:
    return cell.cost(cost)


@dataclass(frozen=True)
class _Judged:
    """A point that has come to its end."""

    about: Mapping[str, Any]
    measured: Measured


def transfer_outcome(
    config: TransferConfig,
    run: Folder,
    data: EvaluationSet,
    pretraining: PretrainingCost,
    about: Mapping[str, Any],
) -> TransferOutcome:
    """What the points that are there come to.

    Raises:
        CheckpointError: A point's predictions are not those that were published; the message names it.
        CorpusError: The validation split has fewer than two groups of rows.
    """
    subject = Subject.of(data)
    compared = Compared.of(config.task, subject)
    metrics = validation_metrics(build_task(config.task, facts_of(data)), subject)
    resampling = Resampling(config.num_resamples, seed=0)
    finished = finished_points(run, config.points())
    judged: dict[tuple[Weights, int, float], list[_Judged]] = {}
    diverged: dict[str, str] = {}
    for point, manifest in finished.items():
        if manifest.about["error"] is not None:
            diverged[point.id] = manifest.about["error"]
            continue
        measured = Measured.of(metrics, _predictions(point_folder(run, point), manifest))
        judged.setdefault((point.weights, point.labels, point.epochs), []).append(_Judged(manifest.about, measured))
    means = {budget: Measured.mean([one.measured for one in of]) for budget, of in judged.items()}
    cells = [
        cell
        for budget, of in judged.items()
        if (cell := _cell(*budget, of, means[budget], compared.metric, resampling)) is not None
    ]
    drawn = [means[cell.budget] for cell in cells]
    draws = metric_draws(drawn, compared.metric, resampling).tolist() if cells else []
    return TransferOutcome(
        name=config.name,
        metric=compared.metric,
        higher_is_better=compared.higher_is_better,
        num_rows=data.num_rows("validation"),
        cells=tuple(sorted(cells, key=lambda one: one.budget)),
        differences=dict(_differences(means, compared.metric, resampling)),
        diverged=diverged,
        pretraining=pretraining,
        draws=dict(zip((cell.budget for cell in cells), draws, strict=True)),
        about=about,
    )


def _predictions(folder: Folder, manifest: Manifest) -> "pa.Table":
    import pyarrow.parquet as pq

    data = read_verified(folder, manifest, PREDICTIONS, "delete the folder")
    return pq.read_table(io.BytesIO(data))


def _cell(
    weights: Weights,
    labels: int,
    epochs: float,
    judged: Sequence[_Judged],
    mean: Measured,
    metric: str,
    resampling: Resampling,
) -> Cell | None:
    """None where the metric is undefined."""
    intervals = mean.intervals(resampling)
    if metric not in intervals:
        return None

    def average(name: str) -> float:
        return float(sum(one.about[name] for one in judged) / len(judged))

    return Cell(
        weights=weights,
        labels=labels,
        epochs=epochs,
        quality=intervals[metric],
        of_seeds=tuple(one.measured.values()[metric] for one in judged),
        metrics=intervals,
        device_seconds=average("device_seconds"),
        flops=average("flops"),
        tokens=average("tokens"),
        num_steps=average("num_steps"),
        energy_j=None if any(one.about.get("energy_j") is None for one in judged) else average("energy_j"),
    )


def _differences(
    means: Mapping[tuple[Weights, int, float], Measured], metric: str, resampling: Resampling
) -> Iterator[tuple[tuple[int, float], Interval]]:
    for labels, epochs in sorted({(labels, epochs) for _, labels, epochs in means}):
        both = [means.get((one, labels, epochs)) for one in WEIGHTS]
        if both[0] is not None and both[1] is not None:
            found = difference_intervals(both[0], both[1], resampling)
            if metric in found:
                yield (labels, epochs), found[metric]
