"""`python -m jobs checkpoints RUN`: which checkpoints a run has, and whether they are whole. Imports no torch."""

import json
from dataclasses import asdict

from jobs.runtime.references import existing_run
from jobs.runtime.tables import aligned
from llmcore.errors import CheckpointError
from llmcore.train.inspection import CheckpointStatus, list_checkpoints

__all__ = ["checkpoint_listing"]

_HEADINGS = ("step", "attempt", "ranks", "ZeRO", "precision", "bytes", "loss", "status", "")
_NUMBERS = ("step", "attempt", "ranks", "ZeRO", "bytes", "loss")


def checkpoint_listing(reference: str, storage_url: str, *, verify: bool, as_json: bool) -> None:
    """Print a run's checkpoints as a table, or as JSON; with `verify`, every byte is read and hashed.

    Raises ConfigError where there is no such run, StorageError, and CheckpointError when one is damaged.
    """
    run = existing_run(storage_url, reference)
    found = list_checkpoints(run, verify=verify)
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=2))
    elif not found:
        print(f"no checkpoints at {run.url}")
    else:
        print("\n".join(aligned([_HEADINGS, *map(_cells, found)], _NUMBERS)))
    damaged = [one for one in found if one.status == "damaged"]
    if damaged:
        raise CheckpointError(
            f"{len(damaged)} of {len(found)} checkpoints of {run.url} are damaged: the run passes over them; "
            "delete them to have their room"
        )


def _cells(one: CheckpointStatus) -> tuple[str, ...]:
    known = [one.world_size, one.zero_stage, one.precision, None if one.num_bytes is None else f"{one.num_bytes:,}"]
    loss = "-" if one.loss is None else f"{one.loss:.4f}"
    shown = ("-" if value is None else str(value) for value in known)
    writer = str(one.attempt) if one.session == 1 else f"{one.attempt}.{one.session}"
    return (str(one.step), writer, *shown, loss, one.status, one.reason or "")
