"""Runs that a person names on the command line."""

from difflib import get_close_matches

from llmcore.errors import ConfigError
from llmcore.records import run_folder
from llmcore.storage import Folder, is_location, resolve_storage

__all__ = ["existing_run"]


def existing_run(storage_url: str, reference: str) -> Folder:
    """The folder of a run, or of a search's trial, by its name in the storage or by its URL. Raises ConfigError."""
    storage = resolve_storage(storage_url, inside_ray_job=False)
    run = resolve_storage(reference, inside_ray_job=False) if is_location(reference) else run_folder(storage, reference)
    if run.exists():
        return run
    near = [] if is_location(reference) else get_close_matches(reference, storage.names(), n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "give a run's name with --storage URL, or its own URL"
    raise ConfigError(f"there is no run at {run.url}: {hint}")
