"""The majority class: what a model has to beat to have learnt anything."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from llmcore.evaluation.bootstrap import Measured
from llmcore.evaluation.results import Evaluation
from llmcore.evaluation.score import Predictions, predictions_table
from llmcore.evaluation.suite import Suite
from llmcore.storage import content_hash
from llmcore.tasks.evaluation_set import EvaluationSet

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["MajorityClass"]

_Labels = tuple[int, ...]
"""What is predicted of a row: its one class, or all of several labels."""


@dataclass(frozen=True)
class MajorityClass:
    """Always the same class: the most frequent one of train, or of the judged rows where that scores better.

    Taking the better of the two makes it the stronger baseline: where classes are split unevenly, the majority of train
    alone is easily beaten by a model that has only learnt how frequent classes are. Of equally frequent classes the
    first one counts. Where rows have several labels, it is the most frequent combination of labels.
    """

    train_labels: _Labels
    suite: Suite
    model_sha256: str

    @classmethod
    def of(cls, labelled: EvaluationSet, suite: Suite) -> "MajorityClass":
        """The baseline of a labelled set; its hash is that of what it is made of."""
        model = content_hash("majority", labelled.split_hash("train"), suite.choose_by)
        return cls(_majority(_labels(labelled.rows("train"))), suite, model)

    def predict(self, rows: "pa.Table") -> Predictions:
        """The better class for all rows, with certainty."""
        metric = self.suite.choosing_metric()
        sign = 1 if metric.higher_is_better else -1
        candidates = dict.fromkeys((self.train_labels, _majority(_labels(rows))))
        tables = [self._table(rows, labels) for labels in candidates]
        worth = [sign * Measured.of([metric], table).values()[metric.name] for table in tables]
        return Predictions(tables[int(np.argmax(np.nan_to_num(worth, nan=-np.inf)))], num_truncated=0)

    def describe(self, evaluation: Evaluation) -> dict[str, str]:
        """Which class it was, and of which split it is the majority."""
        taken = evaluation.predictions()["prediction"][0].as_py()
        labels = tuple(taken) if self.suite.subject.multi_label else (taken,)
        names = ", ".join(self.suite.subject.label_names[label] for label in labels)
        return {"class": names or "none", "majority_of": "train" if labels == self.train_labels else "test"}

    def _table(self, rows: "pa.Table", labels: _Labels) -> "pa.Table":
        import pyarrow as pa

        subject = self.suite.subject
        probabilities = np.zeros((rows.num_rows, len(subject.label_names)), dtype=np.float32)
        probabilities[:, list(labels)] = 1
        one: Any = list(labels) if subject.multi_label else labels[0]
        kind = pa.list_(pa.int32()) if subject.multi_label else pa.int32()
        columns = {"prediction": pa.array([one] * rows.num_rows, kind), "probabilities": probabilities}
        return predictions_table(subject.references, rows, columns)


def _labels(rows: "pa.Table") -> list[_Labels]:
    if "labels" in rows.column_names:
        return [tuple(sorted(labels)) for labels in rows["labels"].to_pylist()]
    return [(label,) for label in rows["label"].to_pylist()]


def _majority(labels: list[_Labels]) -> _Labels:
    counts = Counter(labels)
    return min(counts, key=lambda one: (-counts[one], one))
