"""A published model's predictions for the rows of a labelled set."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from llmcore.errors import CheckpointError
from llmcore.storage import Folder, read_manifest, verify_files
from llmcore.tasks import task_from_about
from llmcore.tasks.base import Predictor, Task

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Predictions", "Scorer", "predictions_table"]


@dataclass(frozen=True)
class Predictions:
    """What a model says of rows.

    Attributes:
        table: One row each, in the order of the set: id, group, the reference columns of the kind, prediction, and
            what else the kind has (probabilities, say).
        num_truncated: Texts that were cut.
    """

    table: "pa.Table"
    num_truncated: int


@dataclass(frozen=True)
class Scorer:
    """A model in memory, and its task."""

    task: Task[Any, Any]
    predictor: Predictor

    @classmethod
    def load(cls, folder: Folder, *, sha256: str | None = None) -> "Scorer":
        """Load a published model folder, after reading every byte of it against its manifest.

        Raises:
            CheckpointError: The folder is absent, incomplete, altered, or not the model of that hash.
        """
        manifest = read_manifest(folder)
        if manifest is None:
            raise CheckpointError(f"{folder.url} holds no complete model: its manifest is absent or damaged")
        if sha256 not in (None, manifest.sha256):
            raise CheckpointError(f"{folder.url} holds model {manifest.sha256}, not the recorded {sha256}")
        verify_files(folder, manifest)
        task = task_from_about(manifest.about)
        return cls(task, task.predictor(folder.as_local()))

    def predict(self, rows: "pa.Table", *, batch_tokens: int) -> Predictions:
        """Predictions for all rows; at most `batch_tokens` tokens are in the model at once, or one example."""
        columns, num_truncated = self.predictor.predict(rows, batch_tokens=batch_tokens)
        return Predictions(predictions_table(self.task.set_kind.references, rows, columns), num_truncated)


def predictions_table(references: Collection[str], rows: "pa.Table", columns: Mapping[str, Any]) -> "pa.Table":
    """Rows' id, group and reference columns, beside columns of predictions.

    Args:
        references: What the set's kind is judged against.
        rows: Of the set.
        columns: Of each, one value, vector or list a row: NumPy or Arrow arrays, or lists.
    """
    import pyarrow as pa

    kept = [name for name in references if name in rows.column_names]
    table = rows.select(["id", "group", *kept])
    for name, values in columns.items():
        several = isinstance(values, np.ndarray) and values.ndim > 1
        table = table.append_column(name, pa.array(list(values) if several else values))
    return table
