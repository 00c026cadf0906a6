"""The majority class: what a model has to beat to have learnt anything."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from llmcore.evaluation.metrics import METRICS
from llmcore.evaluation.results import Evaluation
from llmcore.evaluation.score import Predictions, predictions_table
from llmcore.evaluation.suite import Suite
from llmcore.storage import content_hash
from llmcore.tasks.evaluation_set import EvaluationSet

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["MajorityClass"]


@dataclass(frozen=True)
class MajorityClass:
    """Always the same class: the most frequent one of train, or of the judged rows where that scores higher.

    Taking the better of the two makes it the stronger baseline: where classes are split unevenly, the majority of train
    alone is easily beaten by a model that has only learnt how frequent classes are. Of equally frequent classes the
    first one counts.
    """

    train_class: int
    num_classes: int
    choose_by: str
    model_sha256: str

    @classmethod
    def of(cls, evaluation_set: EvaluationSet, suite: Suite) -> "MajorityClass":
        """The baseline of a labelled set; its hash is that of what it is made of."""
        labels = evaluation_set.rows("train")["label"].to_numpy()
        num_classes = len(evaluation_set.label_names)
        model = content_hash("majority", evaluation_set.split_hash("train"), suite.choose_by)
        return cls(_majority(labels, num_classes), num_classes, suite.choose_by, model)

    def predict(self, rows: "pa.Table") -> Predictions:
        """The better class for all rows, with certainty."""
        labels = rows["label"].to_numpy()
        score = METRICS[self.choose_by].of_predictions
        classes = dict.fromkeys((self.train_class, _majority(labels, self.num_classes)))
        best = max(classes, key=lambda one: score(labels, np.full(len(labels), one)))
        probabilities = np.zeros((len(labels), self.num_classes), dtype=np.float32)
        probabilities[:, best] = 1
        columns = {"prediction": np.full(len(labels), best, dtype=np.int32), "probabilities": probabilities}
        return Predictions(predictions_table(rows, columns), num_truncated=0)

    def describe(self, evaluation: Evaluation, label_names: list[str]) -> dict[str, str]:
        """Which class it was, and of which split it is the majority."""
        taken = evaluation.predictions()["prediction"][0].as_py()
        return {"class": label_names[taken], "majority_of": "train" if taken == self.train_class else "test"}


def _majority(labels: "np.ndarray[tuple[int], np.dtype[np.int32]]", num_classes: int) -> int:
    return int(np.bincount(labels, minlength=num_classes).argmax())
