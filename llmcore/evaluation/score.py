"""A published model's predictions for the rows of a labelled set."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from llmcore.errors import CheckpointError
from llmcore.evaluation.metrics.fairness import FLIP, SHIFT
from llmcore.evaluation.programs import run_written
from llmcore.evaluation.suite import Suite
from llmcore.storage import Folder, read_manifest, verify_files
from llmcore.tasks import task_from_about
from llmcore.tasks.base import Predictor, Task
from llmcore.tasks.counterfactual import Counterfactuals
from llmcore.tasks.text_to_text import TextToText

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Predictions", "Scorer", "predictions_table"]


_OF_COUNTERFACTUAL = "counterfactual_prediction"
_MOVES_OF = ("prediction", "probabilities")


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

    @classmethod
    def joined(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """Those of parts of a set's rows, one behind the other; nothing is copied."""
        import pyarrow as pa

        # A part may have nothing but empty lists in a column, whose type it then does not know.
        table = pa.concat_tables([part.table for part in parts], promote_options="permissive")
        return cls(table, sum(part.num_truncated for part in parts))


@dataclass(frozen=True)
class Scorer:
    """A model in memory, and its task.

    Attributes:
        task: The task.
        predictor: The model.
        num_sandboxes: Where programs that it writes are judged by running them, how many run at once; 0: nothing runs.
        suite: By which its predictions are judged, where that asks for more than the predictions of the rows.
    """

    task: Task[Any, Any]
    predictor: Predictor
    num_sandboxes: int = 0
    suite: Suite | None = None

    @classmethod
    def load(
        cls, folder: Folder, *, sha256: str | None = None, suite: Suite | None = None, num_parallel: int = 1
    ) -> "Scorer":
        """Load a published model folder, after reading every byte of it against its manifest.

        Args:
            folder: Where it is.
            sha256: The hash of its manifest, where that was recorded.
            suite: By which its predictions are judged: it says how they are made.
            num_parallel: Programs that run at once.

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
        if isinstance(task, TextToText):
            predictor: Predictor = task.predictor(folder.as_local(), suite.generation if suite else None)
        else:
            predictor = task.predictor(folder.as_local())
        return cls(task, predictor, num_parallel if suite and suite.runs_programs else 0, suite)

    def predict(self, rows: "pa.Table", *, batch_tokens: int) -> Predictions:
        """Predictions for all rows; at most `batch_tokens` tokens are in the model at once, or one example."""
        columns, num_truncated = self.predictor.predict(rows, batch_tokens=batch_tokens)
        if self.num_sandboxes:
            columns |= run_written(rows, columns, num_parallel=self.num_sandboxes)
        if self.suite and self.suite.fairness and self.suite.fairness.counterfactuals:
            made = Counterfactuals(self.suite.fairness.counterfactuals)
            columns |= self._moved(rows, columns, made, self.suite.subject.inputs(rows), batch_tokens)
        return Predictions(predictions_table(self.task.set_kind.references, rows, columns), num_truncated)

    def _moved(
        self,
        rows: "pa.Table",
        columns: Mapping[str, Any],
        made: Counterfactuals,
        inputs: Sequence[str],
        batch_tokens: int,
    ) -> dict[str, Any]:
        """What is predicted of counterfactuals, and how far that is from the predictions; null of other rows."""
        import pyarrow as pa

        swapped, places = made.of(rows, inputs)
        told: dict[str, list[Any]] = {name: [None] * rows.num_rows for name in (_OF_COUNTERFACTUAL, FLIP, SHIFT)}
        if places:
            after, _ = self.predictor.predict(swapped, batch_tokens=batch_tokens)
            before = {name: [columns[name][place] for place in places] for name in columns if name in _MOVES_OF}
            moves = made.moves(before, after)
            for place, *values in zip(places, after["prediction"], moves.flips, moves.shifts, strict=True):
                for name, value in zip(told, values, strict=True):
                    told[name][place] = value
        return told | {name: pa.array(told[name], pa.float64()) for name in (FLIP, SHIFT)}


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
