"""Programs that a model wrote, judged by running the tests of their rows in the sandbox."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmcore.evaluation.sandbox.program import Program
from llmcore.evaluation.sandbox.runner import run_programs

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["NUM_CORRECT", "NUM_SAMPLES", "run_written"]

NUM_SAMPLES, NUM_CORRECT = "num_samples", "num_correct"


def run_written(rows: "pa.Table", columns: Mapping[str, Any], *, num_parallel: int = 1) -> dict[str, Any]:
    """What came of the programs, in columns: how many there are of each row, how many passed, and each one's status.

    What was written is the whole of a program; the row's `setup` runs behind it, and then its `tests`.

    Args:
        rows: Of a `code_generation` set.
        columns: Of predictions: `predictions`, lists of texts, or else `prediction`, one text a row.
        num_parallel: Programs that run at once, each in a sandbox of its own.

    Raises:
        SandboxError: This machine cannot confine them; nothing was run.
    """
    import pyarrow as pa

    written = _written(columns)
    tests = rows["tests"].to_pylist()
    setups = rows["setup"].to_pylist() if "setup" in rows.column_names else [""] * rows.num_rows
    programs = (
        Program(text, test, setup or "")
        for texts, test, setup in zip(written, tests, setups, strict=True)
        for text in texts
    )
    outcomes = run_programs(programs, num_parallel=num_parallel)
    statuses = [[next(outcomes).status for _ in texts] for texts in written]
    return {
        NUM_SAMPLES: pa.array([len(of_row) for of_row in statuses], pa.int32()),
        NUM_CORRECT: pa.array([of_row.count("passed") for of_row in statuses], pa.int32()),
        "outcomes": pa.array(statuses, pa.list_(pa.string())),
    }


def _written(columns: Mapping[str, Any]) -> Sequence[Sequence[str]]:
    if "predictions" in columns:
        return columns["predictions"]  # type: ignore[no-any-return]
    return [[text] for text in columns["prediction"]]
