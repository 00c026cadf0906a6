"""The model that a fine-tuning begins with: of a run, published, a Hugging Face folder, of the hub, or DeepSpeed's."""

from typing import TYPE_CHECKING, Any

from llmcore.errors import ConfigError, CorpusError
from llmcore.models.foundation import POSITIONS, find_foundation, foundation_files, foundation_hash
from llmcore.records import newest_result, run_folder
from llmcore.storage import Folder, Manifest, artifact, folder_at, is_location, publish, read_manifest, write_file
from llmcore.storage.content import chunks
from llmcore.tasks.converted import converted_hash, is_checkpoint, publish_converted
from llmcore.tokens.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from llmcore.tasks.base import Task

__all__ = ["base_model", "check_base", "copied_base", "find_base"]

_KIND = "base-models"
_CONFIG = "config.json"


def find_base(storage: Folder, base: str, key: str = "base") -> tuple[Folder, Manifest]:
    """The model of a finished run, or at the URL of a published one, which `key` of a configuration names.

    Raises:
        CorpusError: There is no such model.
    """
    run = run_folder(storage, base)
    result = newest_result(run)
    if result is not None and "model" not in result:
        raise CorpusError(f"{key}={base!r} is a run that leaves no model")
    model = run if result is None else run.parent / result["model"]
    manifest = read_manifest(model)
    if manifest is None:
        raise CorpusError(f"{key}={base!r}: there is no complete model at {model.url}: run `pretrain` first")
    return model, manifest


def base_model(storage: Folder, base: str, key: str = "base") -> tuple[Folder, Manifest]:
    """The model that `key` names: as `find_base`, or a Hugging Face folder, or `owner/name` of the hub.

    A folder of another maker is copied once, under the hash of its content, to where all nodes read it. Of one where
    DeepSpeed's engine saved a checkpoint such a folder is made.

    Raises:
        CorpusError: There is no such model.
        ConfigError: The folder has no config with safetensors, or with a whole checkpoint, beside it.
    """
    folder = folder_at(base)
    if is_checkpoint(folder):
        return _converted(storage, folder)
    if is_location(base) or folder.exists(_CONFIG):
        if read_manifest(folder) is None and folder.exists(_CONFIG):
            return _published(storage, find_foundation(base, key))
    elif base.count("/") == 1 and not run_folder(storage, base).exists():
        return _published(storage, _of_hub(base, key))
    return find_base(storage, base, key)


def copied_base(storage: Folder, sha256: str) -> Folder | None:
    """The copy of another maker's model that has this hash, wherever that which was copied is now."""
    copies = storage / "artifacts" / _KIND
    for name in copies.names():
        manifest = read_manifest(copies / name)
        if manifest is not None and manifest.sha256 == sha256:
            return copies / name
    return None


def _published(storage: Folder, source: Folder) -> tuple[Folder, Manifest]:
    """The copy of a folder, made now if there is none."""
    target = artifact(storage, _KIND, foundation_hash(source))
    if read_manifest(target) is None:
        with publish(target, _KIND, {"source": source.url}) as publication:
            for name in foundation_files(source):
                with source.open(name) as file:
                    publication.add(write_file(target, name, chunks(file)))
    return _complete(target)


def _converted(storage: Folder, source: Folder) -> tuple[Folder, Manifest]:
    """The Hugging Face folder of a checkpoint of DeepSpeed, made now if there is none."""
    target = artifact(storage, _KIND, converted_hash(source))
    if read_manifest(target) is None:
        publish_converted(source, target, _KIND)
    return _complete(target)


def _complete(folder: Folder) -> tuple[Folder, Manifest]:
    manifest = read_manifest(folder)
    assert manifest is not None, folder.url
    return folder, manifest


def _of_hub(name: str, key: str) -> Folder:
    """A model of the hub, as its own library fetches and keeps it; with HF_HUB_OFFLINE, only what is kept."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        local = snapshot_download(name, allow_patterns=["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"])
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CorpusError(
            f"{key}={name!r} is no run of this storage, no folder, and cannot be had from the hub ({reason}): name a "
            "run, or give a folder"
        ) from error
    return find_foundation(local, key)


def check_base(task: "Task[Any, Any]", base: Folder) -> None:
    """Raises ConfigError where a task cannot be learnt from a base model, before any worker looks at it.

    Its architecture cannot give such answers; it has fewer positions than the task's longest example; or the tokenizer
    beside it has entries that it has not, so that it belongs to another model.
    """
    config = base.read_json(_CONFIG)
    family = str(config.get("model_type"))
    task.check_family(family, encodes_and_decodes=bool(config.get("is_encoder_decoder", family in ("t5", "bart"))))
    positions = config.get(POSITIONS.get(family, ""))
    if family == "roberta":
        positions -= 2
    if positions is not None and task.max_tokens > positions:
        raise ConfigError(
            f"task.max_tokens={task.max_tokens} is more than the {positions} positions of {base.url}: lower it"
        )
    num_entries, known = len(load_tokenizer(base)), int(config["vocab_size"])
    if num_entries > known:
        raise ConfigError(
            f"the tokenizer of {base.url} has {num_entries:,} entries, and the model {known:,}: it belongs to another "
            "model; put the model's own beside it"
        )
