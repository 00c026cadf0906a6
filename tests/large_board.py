"""A leaderboard of many models on a large split, made in a process of its own, which tells its peak of memory.

python -m tests.large_board FOLDER NUM_MODELS NUM_ROWS
"""

import json
import resource
import sys
import time
from typing import Any

import numpy as np
import pyarrow as pa

from llmcore.evaluation.kinds import KINDS, Subject
from llmcore.evaluation.leaderboard import Entry, rank
from llmcore.evaluation.outcome import Outcome
from llmcore.evaluation.results import Evaluation, evaluate_once
from llmcore.evaluation.score import Predictions, predictions_table
from llmcore.evaluation.suite import Suite
from llmcore.storage import Folder
from llmcore.tasks.evaluation_set import write_evaluation_set

__all__ = ["make_board"]

NAMES = ("negative", "positive")


def make_board(folder: str, num_models: int, num_rows: int) -> dict[str, Any]:
    """Judges, ranks and writes; returns the peak of resident memory in MB, and the seconds of ranking and writing."""
    storage = Folder(folder)
    tables: dict[Any, list[pa.Table]] = {split: [_rows(split, num_rows)] for split in ("train", "validation", "test")}
    labelled = write_evaluation_set(storage, "large", NAMES, tables)
    suite = Suite(labelled.hash, Subject.of(labelled), ("accuracy", "macro_f1"), "accuracy", 500, 0)

    def judged(model: int, split: Any) -> Evaluation:
        def predict(rows: pa.Table) -> Predictions:
            right = np.random.default_rng(model).random(rows.num_rows) < 0.8 + 0.002 * model
            predicted = np.where(right, rows["label"].to_numpy(), 1 - rows["label"].to_numpy())
            sure = np.where(predicted[:, None] == np.arange(2), 0.75, 0.25).astype(np.float32)
            columns = {"prediction": predicted.astype(np.int32), "probabilities": sure}
            kind = KINDS["text_classification"]
            return Predictions(predictions_table(kind.references, rows, columns), num_truncated=0)

        return evaluate_once(storage, labelled, suite, split, model_sha256=f"{model:02}", predict=predict, who={})

    entries = [Entry(f"t{model}", "finished", judged(model, "validation")) for model in range(num_models)]
    started = time.monotonic()
    board = rank(entries, suite)
    assert board.leader is not None
    test = judged(int(board.leader.id[1:]), "test")
    Outcome(labelled, suite, board, board.leader, test, {}, num_looks=1).write(storage / "evaluation")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"peak_mb": peak, "rank_s": time.monotonic() - started, "leader": board.leader.id}


def _rows(split: str, num_rows: int) -> pa.Table:
    numbers = range(num_rows)
    return pa.table(
        {
            "id": [f"{split} {row}" for row in numbers],
            "text": [f"a sentence of some words, and the number {row} of {split}" for row in numbers],
            "label": pa.array([row % 2 for row in numbers], pa.int32()),
            "group": [f"{split} {row}" for row in numbers],
        }
    )


if __name__ == "__main__":
    print(json.dumps(make_board(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
