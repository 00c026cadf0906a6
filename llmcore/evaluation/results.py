"""Stored evaluations: a model is judged once by a suite on a split, whatever is killed or repeated."""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmcore.evaluation.bootstrap import Interval, difference_interval, metric_interval
from llmcore.evaluation.metrics import group_confusions
from llmcore.evaluation.register import record_look
from llmcore.evaluation.score import Predictions
from llmcore.evaluation.suite import Suite
from llmcore.storage import Folder, artifact, content_hash, publish, read_manifest, verify_files
from llmcore.tasks.evaluation_set import EvaluationSet, Split

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Evaluation", "difference", "evaluate_once", "stored_evaluation"]

_KIND = "evaluation"


@dataclass(frozen=True)
class Evaluation:
    """A stored result: metrics.json and predictions.parquet."""

    folder: Folder
    metrics: dict[str, Interval]
    num_rows: int
    num_truncated: int

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
        return cls(folder, metrics, content["num_rows"], content["num_truncated"])

    def predictions(self) -> "pa.Table":
        """Its predictions: id, group, label, prediction, probabilities."""
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
    """
    if suite.set_hash != evaluation_set.hash:
        raise ValueError(f"the suite judges set {suite.set_hash}, this is {evaluation_set.hash}")
    if stored := stored_evaluation(storage, model_sha256, suite, split):
        return stored
    if split == "test":
        test_hash = evaluation_set.split_hash("test")
        record_look(storage, test_hash, model_sha256=model_sha256, suite_hash=suite.hash, who=who)
    rows = evaluation_set.rows(split)
    predictions = predict(rows)
    if not predictions.table["id"].equals(rows["id"]):
        raise ValueError(f"predictions for {predictions.table.num_rows} rows, not the {rows.num_rows} of {split}")
    confusions = _confusions(predictions.table, len(evaluation_set.label_names))
    metrics = {
        metric: metric_interval(metric, confusions, num_resamples=suite.num_resamples, seed=suite.seed)
        for metric in suite.all_metrics
    }
    folder = _folder(storage, model_sha256, suite, split)
    about = {"model_sha256": model_sha256, "suite": suite.to_json(), "split": split, "who": dict(who)}
    content = {
        "metrics": {metric: interval.to_json() for metric, interval in metrics.items()},
        "num_rows": rows.num_rows,
        "num_truncated": predictions.num_truncated,
    }
    with publish(folder, _KIND, about) as publication:
        publication.write_bytes("predictions.parquet", _parquet(predictions.table))
        publication.write_bytes("metrics.json", json.dumps(content, indent=2).encode())
    return Evaluation(folder, metrics, rows.num_rows, predictions.num_truncated)


def difference(first: Evaluation, second: Evaluation, suite: Suite, num_classes: int) -> dict[str, Interval]:
    """Each metric of `first` minus that of `second`, on the same resamples of the same rows."""
    one, other = (_confusions(evaluation.predictions(), num_classes) for evaluation in (first, second))
    return {
        metric: difference_interval(metric, one, other, num_resamples=suite.num_resamples, seed=suite.seed)
        for metric in suite.all_metrics
    }


def _folder(storage: Folder, model_sha256: str, suite: Suite, split: Split) -> Folder:
    return artifact(storage, "evaluations", content_hash(_KIND, model_sha256, suite.hash, split))


def _confusions(predictions: "pa.Table", num_classes: int) -> NDArray[np.int64]:
    labels, predicted = (predictions[name].to_numpy() for name in ("label", "prediction"))
    return group_confusions(labels, predicted, predictions["group"].to_pylist(), num_classes)


def _parquet(table: "pa.Table") -> bytes:
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    pq.write_table(table, stream)
    return stream.getvalue()
