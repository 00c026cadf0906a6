"""Points of a transfer that nobody has trained: so many of their predictions are right, and they have cost so much."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmcore.config.transfer import Point, TransferConfig
from llmcore.evaluation.transfer import (
    POINT,
    PREDICTIONS,
    PretrainingCost,
    TransferOutcome,
    point_folder,
    transfer_outcome,
)
from llmcore.storage import Folder, publish
from llmcore.tasks.evaluation_set import EvaluationSet, write_evaluation_set

__all__ = ["NUM_ROWS", "given_outcome", "labelled_set", "transfer_config", "write_point"]

NUM_ROWS = 40
"""Of the validation split, each a group of its own."""


def transfer_config(**changes: Any) -> TransferConfig:
    """Two label budgets, one number of epochs, compared by accuracy."""
    given: dict[str, Any] = {"name": "bought", "base": "base", "data": "p/d", "labels": [10, 100], "epochs": [1]}
    given |= {"task": {"validation_metric": "accuracy"}, "num_resamples": 200}
    return TransferConfig.model_validate(given | changes)


def labelled_set(storage: Folder) -> EvaluationSet:
    """Rows by turns of two classes."""

    def table(split: str) -> pa.Table:
        ids = [f"{split}-{row:02d}" for row in range(NUM_ROWS)]
        labels = pa.array([row % 2 for row in range(NUM_ROWS)], pa.int32())
        return pa.table({"id": ids, "text": ids, "label": labels, "group": ids})

    return write_evaluation_set(storage, "made", ["no", "yes"], {one: [table(one)] for one in ("train", "validation")})


def write_point(run: Folder, point: Point, num_right: int, cost: float, error: str | None = None) -> None:
    """A point whose first rows are right; its FLOPs are a thousand times its device-seconds."""
    rows = range(NUM_ROWS)
    labels = [row % 2 for row in rows]
    ids = [f"validation-{row:02d}" for row in rows]
    told = [label if row < num_right else 1 - label for row, label in enumerate(labels)]
    table = pa.table({"id": ids, "group": ids, "label": labels, "prediction": pa.array(told, pa.int32())})
    about = {"point": point._asdict(), "error": error, "device_seconds": cost, "flops": 1000 * cost}
    about |= {"tokens": 7, "num_steps": 3, "device": "cpu"}
    with publish(point_folder(run, point), POINT, about) as publication:
        if error is None:
            buffer = io.BytesIO()
            pq.write_table(table, buffer)
            publication.write_bytes(PREDICTIONS, buffer.getvalue())


def given_outcome(
    root: Path,
    right: dict[Point, tuple[int, float]],
    *,
    pretraining: float | None = None,
    diverged: tuple[Point, ...] = (),
    **changes: Any,
) -> TransferOutcome:
    """What points come to of which so many rows are right, at such a cost."""
    storage, config = Folder(str(root)), transfer_config(**changes)
    for point, (num_right, device_seconds) in right.items():
        write_point(storage / config.name, point, num_right, device_seconds)
    for point in diverged:
        write_point(storage / config.name, point, 0, 1.0, error="step 3: the loss is nan")
    flops = None if pretraining is None else 1000 * pretraining
    cost = PretrainingCost(pretraining, flops, "the attempts of base" if pretraining else "base is no run")
    about = {"base": "base", "data": "made", "data_hash": "0" * 64}
    return transfer_outcome(config, storage / config.name, labelled_set(storage), cost, about)
