"""Runs and models that a person names on the command line."""

from difflib import get_close_matches

from llmcore.errors import ConfigError
from llmcore.models.vetting import vet_folder
from llmcore.records import run_folder
from llmcore.storage import Folder, folder_at, is_location, resolve_storage

__all__ = ["CONFIG", "existing_model", "existing_run"]

CONFIG = "config.json"
"""What makes a folder that of a model."""


def existing_run(storage_url: str, reference: str) -> Folder:
    """The folder of a run, or of a search's trial, by its name in the storage or by its URL. Raises ConfigError."""
    storage = resolve_storage(storage_url, inside_ray_job=False)
    run = resolve_storage(reference, inside_ray_job=False) if is_location(reference) else run_folder(storage, reference)
    if run.exists():
        return run
    near = [] if is_location(reference) else get_close_matches(reference, storage.names(), n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "give a run's name with --storage URL, or its own URL"
    raise ConfigError(f"there is no run at {run.url}: {hint}")


def existing_model(storage_url: str, reference: str) -> Folder:
    """The model folder of a run, or of a search's trial, by name or URL; or a Hugging Face folder, by path or URL.

    Raises ConfigError where there is none, or a folder of others wants what no model needs.
    """
    given = folder_at(reference)
    if given.exists(CONFIG):
        vet_folder(given)
        return given
    run = existing_run(storage_url, reference)
    record = run.find_json("trial.json")
    if record is not None:
        if record["model"] is None:
            raise ConfigError(f"the trial at {run.url} has left no model: name another")
        return run / "exports" / str(record["model"]).rpartition("/")[2]
    if not (run / "model").exists(CONFIG):
        raise ConfigError(
            f"the run at {run.url} has no model/: let it end, or make one of a checkpoint with "
            f"`python -m jobs export {reference}`, and give that folder"
        )
    return run / "model"
