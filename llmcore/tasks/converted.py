"""A base model that DeepSpeed's engine saved as a checkpoint: made a Hugging Face folder, once."""

import shutil

from llmcore.errors import ConfigError
from llmcore.models.foundation import file_hashes, foundation_files
from llmcore.storage import Folder, content_hash, publish

__all__ = ["converted_hash", "is_checkpoint", "publish_converted"]

_CONFIG = "config.json"
_LATEST = "latest"
"""The engine's file beside the folders of its checkpoints: the name of the newest."""
_READING = 1
"""Version of how a checkpoint is read: a change makes another folder."""


def is_checkpoint(folder: Folder) -> bool:
    """Whether DeepSpeed's engine saved here, and nobody has made safetensors of it."""
    names = folder.names()
    return _LATEST in names and not any(name.endswith(".safetensors") for name in names)


def converted_hash(source: Folder) -> str:
    """The hash of what is read of it: of its newest checkpoint, every byte.

    Raises ConfigError where it has no config, is remote, or its newest checkpoint is not there.
    """
    if source.local_path() is None:
        raise ConfigError(f"base={source.url}: checkpoints of DeepSpeed are read from a disk: copy it to one")
    if not source.exists(_CONFIG):
        raise ConfigError(
            f"base={source.url} is a checkpoint of DeepSpeed without a {_CONFIG}, which says what model it is of: put "
            "the model's beside it, and its tokenizer's files"
        )
    tag = _tag(source)
    states = [f"{tag}/{name}" for name in (source / tag).names() if name.endswith(".pt")]
    if not states:
        raise ConfigError(f"base={source.url}: `{_LATEST}` names {tag}, and no checkpoint is there")
    return content_hash(_READING, tag, file_hashes(source, [*foundation_files(source), *states]))


def publish_converted(source: Folder, target: Folder, kind: str) -> None:
    """Publishes the Hugging Face folder of the newest checkpoint in `source`: fp32 safetensors, config, tokenizer.

    Raises ConfigError where the checkpoint is torn, or its weights are of another model than the config.
    """
    from llmcore.models.deepspeed_checkpoint import check_weights, write_master_weights

    path, tag = source.as_local(), _tag(source)
    with publish(target, kind, {"source": f"{source.url}/{tag}"}) as publication, publication.staging() as staged:
        for name in foundation_files(source):
            shutil.copyfile(path / name, staged / name)
        write_master_weights(path / tag, staged)
        check_weights(staged, path / tag)


def _tag(source: Folder) -> str:
    return source.read_bytes(_LATEST).decode().strip()
