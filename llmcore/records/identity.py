"""`run.json`: what a run is; written once, and compared with every later start."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from llmcore.config.common import JobSettings
from llmcore.config.fingerprint import differences, fingerprint, flagged_of, identity_of
from llmcore.errors import RunChangedError, StorageError
from llmcore.records.heartbeat import END
from llmcore.records.layout import BEGIN, attempt_folder, attempt_numbers, software_versions
from llmcore.redaction import redacted
from llmcore.storage import Folder, canonical_json
from llmcore.storage.content import readable_json

__all__ = ["RUN", "changes_of", "finished_result", "open_run", "recorded_inputs"]

RUN = "run.json"


def open_run(
    storage: Folder,
    config: JobSettings,
    *,
    kind: str,
    step_version: int,
    inputs: Mapping[str, str],
    parents: Sequence[str],
) -> Folder:
    """The run's folder, its `run.json` written if it is new. Raises RunChangedError when its identity is another."""
    run = storage / config.name
    record = {
        "kind": kind,
        "name": config.name,
        "identity": redacted(identity_of(config)),
        "flagged": redacted(flagged_of(config)),
        "inputs": dict(inputs),
        "step_version": step_version,
        "fingerprint": fingerprint(config, inputs, step_version),
        "versions": software_versions(),
        "parents": redacted(parents),
        "created": time.time(),
    }
    if run.create_bytes(RUN, readable_json(record)):
        return run
    found = run.find_json(RUN)
    if found is None:
        raise StorageError(f"{run.url}/{RUN} is damaged: restore it, or delete the run, or give another `name`")
    # What is compared is what a file would hold: lists for tuples, and so on.
    if lines := _identity_differences(found, json.loads(canonical_json(record))):
        raise RunChangedError(
            f"run {config.name!r} exists at {run.url}, and this is another run (old -> new):\n"
            + "\n".join(f"  {line}" for line in lines)
            + "\nGive another `name`, or the old values."
        )
    return run


def changes_of(run: Folder, config: JobSettings, *, allowed: bool) -> list[str]:
    """Flagged fields that differ from the newest attempt's, a line each. Raises RunChangedError unless `allowed`."""
    lines = differences(_newest_flagged(run), _plain_flagged(config))
    if lines and not allowed:
        raise RunChangedError(
            f"run {config.name!r} exists at {run.url} with other settings (old -> new):\n"
            + "\n".join(f"  {line}" for line in lines)
            + "\nResults may differ by them: add `--allow-changes` to go on all the same, or give the old values."
        )
    return lines


def finished_result(
    storage: Folder, config: JobSettings, *, kind: str, step_version: int, inputs: Mapping[str, str]
) -> dict[str, Any] | None:
    """The result of a run that is done: its newest attempt succeeded, for the same fingerprint and flagged fields.

    None when there is work to do, or when it is not the same run (`begin_attempt` then says how it differs).
    """
    run = storage / config.name
    record = run.find_json(RUN)
    numbers = attempt_numbers(run) if record is not None else []
    if record is None or not numbers:
        return None
    same = (record["kind"], record["fingerprint"]) == (kind, fingerprint(config, inputs, step_version))
    end: dict[str, Any] | None = attempt_folder(run, numbers[-1]).find_json(END)
    if not same or end is None or end["status"] != "succeeded" or _newest_flagged(run) != _plain_flagged(config):
        return None
    result: dict[str, Any] = end["result"]
    return result


def recorded_inputs(storage: Folder, name: str) -> dict[str, str] | None:
    """The inputs that a run was begun with; None where there is no such run."""
    record = (storage / name).find_json(RUN)
    return None if record is None else dict(record["inputs"])


def _identity_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    aside = [key for key in ("kind", "step_version", "inputs") if old[key] != new[key]]
    return differences(old["identity"], new["identity"]) + differences(
        {key: old[key] for key in aside}, {key: new[key] for key in aside}
    )


def _newest_flagged(run: Folder) -> dict[str, Any]:
    for number in reversed(attempt_numbers(run)):
        begin = attempt_folder(run, number).find_json(BEGIN)
        if begin is not None:
            return dict(begin["flagged"])
    return dict(run.read_json(RUN)["flagged"])


def _plain_flagged(config: JobSettings) -> dict[str, Any]:
    return dict(json.loads(canonical_json(redacted(flagged_of(config)))))
