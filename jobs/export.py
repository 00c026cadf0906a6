"""`python -m jobs export RUN`: the Hugging Face folder of a run's checkpoint. Needs no cluster."""

from pathlib import Path

from jobs.runtime.console import say
from jobs.runtime.references import existing_run
from llmcore.config.document import plain_yaml
from llmcore.config.method import MethodSettings
from llmcore.errors import CheckpointError, ConfigError
from llmcore.models.hub import check_hub, push_to_hub
from llmcore.records import CONFIG
from llmcore.storage import Folder, Manifest, check_writable, read_manifest, resolve_storage
from llmcore.tasks.bases import copied_base, find_base
from llmcore.train.exported import export_checkpoint
from llmcore.train.inspection import choose_checkpoint

__all__ = ["export"]


def export(reference: str, storage_url: str, *, step: int | None, to: str | None, hub: str | None = None) -> None:
    """Writes the model of the newest good checkpoint, or of that of a step, to a folder, and says where.

    It is uploaded, too, as `hub`. Raises ConfigError where there is no such run, checkpoint, or place; StorageError;
    CheckpointError; RunError where the hub refuses it.
    """
    if hub is not None:
        check_hub(hub)
    run = existing_run(storage_url, reference)
    checkpoint, manifest = choose_checkpoint(run, step)
    target = run / "exported" / checkpoint.name if to is None else resolve_storage(to, inside_ray_job=False)
    _check_free(target)
    export_checkpoint(run, checkpoint, manifest, target, base=_base(run, manifest))
    say(f"export: {checkpoint.name} of {run.url} is a model folder at {target.url}")
    if hub is not None:
        say(f"The model is at {push_to_hub(target, hub)}")


def _base(run: Folder, manifest: Manifest) -> Path | None:
    """The model that the run began with, where the checkpoint has a part of the weights alone.

    Raises CheckpointError where it cannot be had any more.
    """
    about = manifest.about["model"]["about"]
    method = MethodSettings.model_validate(about.get("method", {}))
    if method.trains_all:
        return None
    if about["weights"] == "random" or method.name == "qlora":
        raise CheckpointError(
            f"{run.url}: what its method ({method.name}) froze is in no folder (random weights, or 4 bits): start the "
            "run's command once more, which exports what it has"
        )
    search = Folder(run.url.rpartition("/trials/")[0] or run.url)
    config = plain_yaml(search.read_bytes(CONFIG))
    copy = copied_base(Folder(config["storage"]), about["base_sha256"])
    if copy is not None:
        return copy.as_local()
    base, there = find_base(Folder(config["storage"]), config["base"])
    if there.sha256 != about["base_sha256"]:
        raise CheckpointError(f"{base.url} is another model than the one that {run.url} began with")
    return base.as_local()


def _check_free(target: Folder) -> None:
    if target.names() and read_manifest(target) is None:
        raise ConfigError(f"--to {target.url} has files that are no model of ours: give an empty or a new folder")
    check_writable(target)
