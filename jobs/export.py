"""`python -m jobs export RUN`: the Hugging Face folder of a run's checkpoint. Needs no cluster."""

from jobs.runtime.console import say
from jobs.runtime.references import existing_run
from llmcore.errors import ConfigError
from llmcore.storage import Folder, check_writable, read_manifest, resolve_storage
from llmcore.train.exported import export_checkpoint
from llmcore.train.inspection import choose_checkpoint

__all__ = ["export"]


def export(reference: str, storage_url: str, *, step: int | None, to: str | None) -> None:
    """Writes the model of the newest good checkpoint, or of that of a step, to a folder, and says where.

    Raises ConfigError where there is no such run, checkpoint, or place; StorageError; CheckpointError.
    """
    run = existing_run(storage_url, reference)
    checkpoint, manifest = choose_checkpoint(run, step)
    target = run / "exported" / checkpoint.name if to is None else resolve_storage(to, inside_ray_job=False)
    _check_free(target)
    export_checkpoint(run, checkpoint, manifest, target)
    say(f"export: {checkpoint.name} of {run.url} is a model folder at {target.url}")


def _check_free(target: Folder) -> None:
    if target.names() and read_manifest(target) is None:
        raise ConfigError(f"--to {target.url} has files that are no model of ours: give an empty or a new folder")
    check_writable(target)
