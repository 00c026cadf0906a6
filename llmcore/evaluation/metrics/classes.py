"""Columns of classes and probabilities as arrays, alike for one label a row and for several."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmcore.errors import CorpusError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Classes"]


@dataclass(frozen=True)
class Classes:
    """The classes of a labelled set.

    Attributes:
        names: The classes; labels and predictions are indices into them.
        multi_label: Whether a row has any number of them, or one.
    """

    names: tuple[str, ...]
    multi_label: bool

    @property
    def label(self) -> str:
        """The column with the true class, or classes."""
        return "labels" if self.multi_label else "label"

    def true(self, rows: "pa.Table") -> NDArray[np.bool_]:
        """Which classes a row has, [rows, classes]."""
        return self._membership(rows, self.label, lowest=0)

    def predicted(self, rows: "pa.Table") -> NDArray[np.bool_]:
        """Which classes are predicted, [rows, classes]. Of one label, -1 is none of them: text that names no class."""
        return self._membership(rows, "prediction", lowest=-1)

    def probabilities(self, rows: "pa.Table") -> NDArray[np.float64]:
        """The column `probabilities`, [rows, classes]."""
        column = rows["probabilities"].combine_chunks()
        flat = column.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
        if len(flat) != rows.num_rows * len(self.names):
            raise CorpusError(
                f"`probabilities` has {len(flat)} values in {rows.num_rows} rows: there are {len(self.names)} classes"
            )
        return np.asarray(flat.reshape(rows.num_rows, len(self.names)))

    def _membership(self, rows: "pa.Table", name: str, lowest: int) -> NDArray[np.bool_]:
        row, index = _indices(rows[name].combine_chunks(), self.multi_label)
        wrong = (index < (0 if self.multi_label else lowest)) | (index >= len(self.names))
        if wrong.any():
            first = int(np.argmax(wrong))
            raise CorpusError(
                f"row {rows['id'][int(row[first])].as_py()!r}: {name} {index[first]} is no index into the "
                f"{len(self.names)} classes {list(self.names)[:10]}"
            )
        member = np.zeros((rows.num_rows, len(self.names)), dtype=bool)
        member[row[index >= 0], index[index >= 0]] = True
        return member


def _indices(column: Any, multi_label: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of a row and one of its classes."""
    if not multi_label:
        return np.arange(len(column)), column.to_numpy(zero_copy_only=False).astype(np.int64)
    rows = np.repeat(np.arange(len(column)), column.value_lengths().to_numpy(zero_copy_only=False))
    return rows, column.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
