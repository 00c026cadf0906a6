"""`python -m jobs runs STORAGE`: which runs there are, and how they stand. Imports neither Ray nor torch."""

import json
from dataclasses import asdict
from datetime import UTC, datetime

from jobs.runtime.tables import aligned
from llmcore.records import RunStatus, list_runs
from llmcore.storage import resolve_storage

__all__ = ["run_listing"]

_HEADINGS = ("kind", "name", "status", "started", "attempts", "time", "cost")


def run_listing(storage_url: str, as_json: bool) -> None:
    """Print the runs of a storage as a table, or as JSON (times in seconds, `started` in ISO 8601).

    Raises StorageError.
    """
    storage = resolve_storage(storage_url, inside_ray_job=False)
    runs = list_runs(storage)
    if as_json:
        print(json.dumps([asdict(run) | {"started": _iso(run.started)} for run in runs], indent=2))
    elif not runs:
        print(f"no runs at {storage.url}")
    else:
        print("\n".join(aligned([_HEADINGS, *map(_cells, runs)], ("attempts", "time", "cost"))))


def _cells(run: RunStatus) -> tuple[str, ...]:
    started = "-" if run.started is None else f"{datetime.fromtimestamp(run.started):%Y-%m-%d %H:%M:%S}"
    money = "-" if run.money is None else f"{run.money:.2f}"
    return run.kind, run.name, run.status, started, str(run.attempts), _duration(run.seconds), money


def _iso(started: float | None) -> str | None:
    return None if started is None else datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
