"""Train rows so that labels hang less on whom a text is about: copies, weights, another number of each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmcore.config.fairness import FairnessSettings
from llmcore.errors import CorpusError
from llmcore.tasks.base import Reader, Task
from llmcore.tasks.compact import compact_features
from llmcore.tasks.counterfactual import Counterfactuals
from llmcore.tasks.fair_classification import FairClassification, FairExample
from llmcore.tasks.text_classification import TextClassification

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Learnt", "balance_weights", "learnt", "sampled_rows", "swapped_columns"]


class Learnt(NamedTuple):
    """What a fine-tuning learns.

    Attributes:
        objective: What makes batches of the examples, and their loss: the task, or one that has it inside.
        examples: In the order of their rows, copies behind them.
        num_truncated: Rows that were cut, copies included.
        num_rows: Rows, copies included.
    """

    objective: Any
    examples: list[Any]
    num_truncated: int
    num_rows: int


def learnt(task: Task[Any, Any], reader: Reader, rows: "pa.Table", fairness: FairnessSettings | None) -> Learnt:
    """Examples of train rows, with what is done about whom they are about.

    Raises:
        CorpusError: The groups of rows are not known.
    """
    if fairness is None:
        features = compact_features(task.features, reader, rows)
        return Learnt(task, features.examples, features.num_truncated, rows.num_rows)
    made = Counterfactuals(fairness.words)
    rows = _augmented(rows, made, swapped_columns(task, rows), fairness.augment)
    weights = np.ones(rows.num_rows)
    if fairness.balance is not None:
        weights = balance_weights(_groups(rows, made, task, fairness.balance_by), rows["label"].to_numpy())
    if fairness.balance == "sample":
        rows = rows.take(sampled_rows(weights))
        weights = np.ones(rows.num_rows)
    features = compact_features(task.features, reader, rows)
    if fairness.consistency == 0 and fairness.balance != "reweight":
        return Learnt(task, features.examples, features.num_truncated, rows.num_rows)
    assert isinstance(task, TextClassification), "the configuration has been checked for it"
    twins: dict[int, Any] = {}
    if fairness.consistency > 0:
        swapped, places = made.of(rows, swapped_columns(task, rows))
        twins = dict(zip(places, compact_features(task.features, reader, swapped).examples, strict=True))
    examples = [
        FairExample(example, float(weight), twins[place]._replace(classes=None) if place in twins else None)
        for place, (example, weight) in enumerate(zip(features.examples, weights, strict=True))
    ]
    return Learnt(FairClassification(task, fairness.consistency), examples, features.num_truncated, rows.num_rows)


def swapped_columns(task: Task[Any, Any], rows: "pa.Table") -> list[str]:
    """Columns of texts and conversations: what a model is given, and what it is to write."""
    texts = (column.name for column in task.set_kind.columns if column.shape in ("text", "messages"))
    return [name for name in texts if name in rows.column_names]


def balance_weights(groups: Sequence[str], labels: NDArray[Any]) -> NDArray[np.float64]:
    """What each row weighs so that labels are independent of groups; their mean is 1.

    P(group) P(label) / P(group, label): "reweighing", Kamiran and Calders 2012, section 5.3.

    Args:
        groups: Of each row.
        labels: Of each row, [rows].
    """
    _, group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    _, label = np.unique(labels, return_inverse=True)
    counts = np.zeros((group.max() + 1, label.max() + 1))
    np.add.at(counts, (group, label), 1)
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0, keepdims=True) / len(group)
    weights = np.divide(expected, counts, out=np.zeros_like(counts), where=counts > 0)[group, label]
    # Where a group has no row of a label, no weight makes up for it; what is left of the mean is spread over all.
    return np.asarray(weights / weights.mean())


def sampled_rows(weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Places of as many rows, each as often as it weighs on average: its weight, rounded down or up.

    Systematic sampling over rows of the same weight together, so that few or many of them are left out evenly.
    """
    order = np.argsort(weights, kind="stable")
    ends = np.floor(np.cumsum(weights[order]) * len(weights) / weights.sum() + 0.5).astype(np.int64)
    return np.sort(np.repeat(order, np.diff(ends, prepend=0)))


def _augmented(rows: "pa.Table", made: Counterfactuals, columns: Sequence[str], share: float) -> "pa.Table":
    """The rows, and behind them the copies of a share of those that name somebody, evenly from all over them."""
    import pyarrow as pa

    if share == 0:
        return rows
    copies, _ = made.of(rows, columns)
    chosen = np.flatnonzero(np.diff(np.floor(np.arange(copies.num_rows + 1) * share)) > 0)
    return pa.concat_tables([rows, copies.take(chosen)])


def _groups(rows: "pa.Table", made: Counterfactuals, task: Task[Any, Any], column: str | None) -> list[str]:
    if column is None:
        return made.leaning(rows, swapped_columns(task, rows))
    if column not in rows.column_names:
        raise CorpusError(f"fairness.balance_by={column!r} is no metadata column of the labelled set")
    return [value or "" for value in rows[column].to_pylist()]
