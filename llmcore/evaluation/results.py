"""Stored evaluations: a model is judged once by a suite on a split, whatever is killed or repeated."""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcore.errors import CorpusError
from llmcore.evaluation.bootstrap import Interval, Measured, difference_intervals
from llmcore.evaluation.figures import figures_json
from llmcore.evaluation.metrics.classes import Classes
from llmcore.evaluation.register import record_look
from llmcore.evaluation.score import Predictions
from llmcore.evaluation.slices import slice_rows, slices_json
from llmcore.evaluation.suite import Suite
from llmcore.evaluation.thresholds import group_thresholds, with_thresholds
from llmcore.storage import Folder, artifact, content_hash, publish, read_manifest, verify_files
from llmcore.tasks.evaluation_set import EvaluationSet, Split

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Evaluation", "difference", "evaluate_once", "open_split", "store_evaluation", "stored_evaluation"]

_KIND = "evaluation"
_NO_VALUE = "these rows do not define it"


@dataclass(frozen=True)
class Evaluation:
    """A stored result: metrics.json and predictions.parquet.

    Attributes:
        folder: Where it is stored.
        metrics: Each metric that is defined for these predictions.
        num_rows: Rows that were judged.
        num_truncated: Rows whose input was cut.
        details: Plain JSON: `signatures` of metrics; why others are `undefined`; `slices`; `figures`.
    """

    folder: Folder
    metrics: dict[str, Interval]
    num_rows: int
    num_truncated: int
    details: dict[str, Any]

    @classmethod
    def open(cls, folder: Folder) -> "Evaluation | None":
        """The result in a folder, or None where there is no complete one.

        Raises:
            CheckpointError: A file is not the one published.
        """
        manifest = read_manifest(folder)
        if manifest is None:
            return None
        verify_files(folder, manifest)
        content = folder.read_json("metrics.json")
        metrics = {name: Interval(**interval) for name, interval in content["metrics"].items()}
        return cls(folder, metrics, content["num_rows"], content["num_truncated"], content["details"])

    def predictions(self) -> "pa.Table":
        """Its predictions: id, group, the reference columns of the kind, prediction, and what else the kind has."""
        import pyarrow.parquet as pq

        return pq.read_table(io.BytesIO(self.folder.read_bytes("predictions.parquet")))

    def metrics_json(self) -> dict[str, dict[str, float]]:
        """Plain JSON: metric → value, low, high."""
        return {name: interval.to_json() for name, interval in self.metrics.items()}


def stored_evaluation(storage: Folder, model_sha256: str, suite: Suite, split: Split) -> Evaluation | None:
    """The stored result of a model, or None."""
    return Evaluation.open(_folder(storage, model_sha256, suite, split))


def evaluate_once(
    storage: Folder,
    evaluation_set: EvaluationSet,
    suite: Suite,
    split: Split,
    *,
    model_sha256: str,
    predict: Callable[["pa.Table"], Predictions],
    who: Mapping[str, Any],
) -> Evaluation:
    """The stored result of (model, suite, split); if there is none, judge the model and store it.

    A look at the test split is in the register before its rows are read.

    Args:
        storage: Where artifacts are kept.
        evaluation_set: The set that the suite names.
        suite: Metrics and intervals.
        split: The split to judge on.
        model_sha256: What identifies the model: the hash of its folder, or of what a baseline is made of.
        predict: Gives predictions for rows of the set, in their order.
        who: The run and attempt that look, for the register.

    Raises:
        CorpusError: The split has one group alone, or does not define the metric that chooses.
    """
    if stored := stored_evaluation(storage, model_sha256, suite, split):
        return stored
    open_split(storage, evaluation_set, suite, split, model_sha256=model_sha256, who=who)
    predictions = predict(evaluation_set.rows(split))
    return store_evaluation(
        storage, evaluation_set, suite, split, model_sha256=model_sha256, predictions=predictions, who=who
    )


def open_split(
    storage: Folder,
    evaluation_set: EvaluationSet,
    suite: Suite,
    split: Split,
    *,
    model_sha256: str,
    who: Mapping[str, Any],
) -> None:
    """Before the rows of a split are read: a look at the test split is written into the register."""
    if suite.set_hash != evaluation_set.hash:
        raise ValueError(f"the suite judges set {suite.set_hash}, this is {evaluation_set.hash}")
    if split == "test":
        test_hash = evaluation_set.split_hash("test")
        record_look(storage, test_hash, model_sha256=model_sha256, suite_hash=suite.hash, who=who)


def store_evaluation(
    storage: Folder,
    evaluation_set: EvaluationSet,
    suite: Suite,
    split: Split,
    *,
    model_sha256: str,
    predictions: Predictions,
    who: Mapping[str, Any],
) -> Evaluation:
    """Judge predictions for all rows of a split, each once and in their order, and store the result.

    Args as those of `evaluate_once`.

    Raises:
        ValueError: The predictions are for other rows.
        CorpusError: As `evaluate_once`.
    """
    rows = evaluation_set.rows(split)
    if not predictions.table["id"].equals(rows["id"]):
        raise ValueError(f"predictions for {predictions.table.num_rows} rows, not the {rows.num_rows} of {split}")
    table, thresholds = _with_groups(suite, rows, predictions.table), None
    if suite.fairness and suite.fairness.thresholds and "probabilities" in table.column_names:
        thresholds = _thresholds(storage, suite, split, model_sha256, table)
        table = with_thresholds(table, thresholds, suite.fairness.thresholds.by)
    metrics, details = _judge(suite, rows, table)
    if thresholds is not None:
        details["thresholds"] = thresholds
    if split == "validation" and suite.choose_by not in metrics:
        raise CorpusError(
            f"{suite.choose_by}, which is to choose, is undefined for these predictions: "
            f"{details['undefined'][suite.choose_by]}; choose by another metric"
        )
    folder = _folder(storage, model_sha256, suite, split)
    about = {"model_sha256": model_sha256, "suite": suite.to_json(), "split": split, "who": dict(who)}
    content = {
        "metrics": {metric: interval.to_json() for metric, interval in metrics.items()},
        "num_rows": rows.num_rows,
        "num_truncated": predictions.num_truncated,
        "details": details,
    }
    with publish(folder, _KIND, about) as publication:
        with publication.staging() as staged:
            _write_parquet(table, staged / "predictions.parquet")
        publication.write_bytes("metrics.json", json.dumps(content, indent=2).encode())
    return Evaluation(folder, metrics, rows.num_rows, predictions.num_truncated, details)


def difference(first: Evaluation, second: Evaluation, suite: Suite) -> dict[str, Interval]:
    """Each metric that both have, of `first` minus that of `second`, on the same resamples of the same rows."""
    metrics = suite.all_metrics()
    one, other = (Measured.of(metrics, evaluation.predictions()) for evaluation in (first, second))
    return difference_intervals(one, other, suite.resampling)


def _with_groups(suite: Suite, rows: "pa.Table", predictions: "pa.Table") -> "pa.Table":
    """Predictions beside the groups of people that the suite compares."""
    for column in suite.fairness.groups if suite.fairness else ():
        predictions = predictions.append_column(column, rows[column])
    return predictions


def _thresholds(storage: Folder, suite: Suite, split: Split, model_sha256: str, table: "pa.Table") -> dict[str, float]:
    """Those of groups, found on validation; none, so that it is one half, for what was never judged there."""
    if split == "validation":
        assert suite.fairness is not None and suite.fairness.thresholds is not None
        classes = Classes(suite.subject.label_names, suite.subject.multi_label)
        return group_thresholds(table, classes, suite.fairness.thresholds)
    validation = stored_evaluation(storage, model_sha256, suite, "validation")
    return {} if validation is None else dict(validation.details["thresholds"])


def _judge(suite: Suite, rows: "pa.Table", predictions: "pa.Table") -> tuple[dict[str, Interval], dict[str, Any]]:
    """The metrics of predictions for rows of the set, and the details."""
    metrics = suite.all_metrics()
    measured = Measured.of(metrics, predictions)
    intervals = measured.intervals(suite.resampling)
    return intervals, {
        "signatures": {metric.name: metric.signature for metric in metrics if metric.signature},
        "undefined": {
            metric.name: f"there is no {', '.join(absent)}"
            if (absent := measured.absent.get(metric.name))
            else _NO_VALUE
            for metric in metrics
            if metric.name not in intervals
        },
        "slices": slices_json(slice_rows(suite.subject, rows), measured, suite.resampling),
        "figures": figures_json(suite.subject, predictions),
    }


def _folder(storage: Folder, model_sha256: str, suite: Suite, split: Split) -> Folder:
    return artifact(storage, "evaluations", content_hash(_KIND, model_sha256, suite.hash, split))


def _write_parquet(table: "pa.Table", path: Path) -> None:
    """Batch by batch: the whole of the file is not in memory beside the table."""
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, table.schema) as writer:
        for batch in table.to_batches():
            writer.write_batch(batch)
