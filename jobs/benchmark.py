"""`benchmark`: ours and its peer, in turn, on this machine; a table, and the same as JSON."""

import importlib
import json
import os
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jobs.benchmarks.rows import Measured, Row
from jobs.runtime.console import say
from jobs.runtime.options import RunOptions
from jobs.runtime.tables import aligned
from llmcore.errors import UserError

__all__ = ["BENCHMARKS", "machine", "run", "table"]

BENCHMARKS = {
    "checkpoint": "jobs.benchmarks.checkpoint",
    "corpus": "jobs.benchmarks.corpus",
    "dropout": "jobs.benchmarks.dropout",
    "duplicates": "jobs.benchmarks.duplicates",
    "finetune": "jobs.benchmarks.finetune",
    "gpu": "jobs.benchmarks.gpu",
    "memory": "jobs.benchmarks.memory",
    "prepare": "jobs.benchmarks.prepare",
    "reader": "jobs.benchmarks.reader",
    "start": "jobs.benchmarks.start",
    "train": "jobs.benchmarks.train",
}
"""The module of each, whose `measure(options)` gives its `Measured`."""

_PACKAGES = ("datasets", "deepspeed", "pyarrow", "ray", "tokenizers", "torch", "transformers")
_HEADINGS = ("", "ours", "unit", "peer", "peer's", "ours / peer's")


def run(name: str, *, json_file: Path | None, options: RunOptions) -> None:
    """`python -m jobs benchmark NAME [--json FILE]`.

    Raises:
        UserError: there is no such benchmark, or the file cannot be there.
        RunError: ours and the peer did not do the same work.
    """
    measure = _measure_of(name)
    if json_file is not None and (json_file.is_dir() or not json_file.absolute().parent.is_dir()):
        raise UserError(f"--json {json_file}: give a file in a folder that is there")
    facts = machine()
    if facts["load_average"] > facts["num_cores"] / 4:
        busy = f"{facts['load_average']:.1f} on {facts['num_cores']} cores"
        say(f"benchmark: the machine is busy (load {busy}): ratios may hold, figures do not")
    measured = measure(options)
    say(table(measured.rows))
    if json_file is not None:
        rows = [row.to_json() for row in measured.rows]
        record = {"benchmark": name, "machine": facts, "settings": measured.settings, "rows": rows}
        json_file.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _measure_of(name: str) -> Callable[[RunOptions], Measured]:
    if name not in BENCHMARKS:
        near = get_close_matches(name, BENCHMARKS, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UserError(f"got the benchmark {name!r}; expected one of {', '.join(BENCHMARKS)}{hint}")
    measure: Callable[[RunOptions], Measured] = importlib.import_module(BENCHMARKS[name]).measure
    return measure


def machine() -> dict[str, Any]:
    """What the figures depend on: cores this process may use, load average of the last minute, versions, the time."""
    return {
        "num_cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 2),
        "architecture": platform.machine(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    }


def table(rows: list[Row]) -> str:
    """The rows as text, in aligned columns."""
    return "\n".join(aligned([_HEADINGS, *map(_cells, rows)], ("ours", "peer's", "ours / peer's")))


def _cells(row: Row) -> tuple[str, ...]:
    values = [_number(row.value), _number(row.peer_value), "" if row.ratio is None else f"{row.ratio:.3f}"]
    return row.name, values[0], row.unit, row.peer or "", values[1], values[2]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.4g}"
