"""A Hugging Face folder whose weights a pre-training begins with. Needs no torch."""

import hashlib
from collections.abc import Iterable
from typing import Any

from llmcore.config.pretrain import FAMILIES, Learnt
from llmcore.errors import ConfigError
from llmcore.models.vetting import vet_folder
from llmcore.storage import MANIFEST, Folder, content_hash, folder_at, read_manifest
from llmcore.storage.content import chunks
from llmcore.tokens.tokenizer import VOCABULARY_FILES, find_tokenizer, load_tokenizer

__all__ = ["POSITIONS", "check_foundation", "file_hashes", "find_foundation", "foundation_config", "foundation_files"]
__all__ += ["foundation_hash"]

POSITIONS = {
    "gpt2": "n_positions",
    "llama": "max_position_embeddings",
    "qwen3": "max_position_embeddings",
    "bert": "max_position_embeddings",
    "roberta": "max_position_embeddings",
    "modernbert": "max_position_embeddings",
    "bart": "max_position_embeddings",
}
"""Where a family's config keeps how many positions there are; T5's are relative."""
_CONFIG = "config.json"
_READ = (".safetensors", ".json", ".txt", ".model", ".jinja")


def find_foundation(reference: str, key: str = "model.folder") -> Folder:
    """The folder of a path or URL, which `key` of a configuration names.

    Raises ConfigError where it has no config and safetensors, or wants what no model needs; StorageError.
    """
    folder = folder_at(reference)
    names = folder.names()
    if _CONFIG not in names or not any(name.endswith(".safetensors") for name in names):
        raise ConfigError(
            f"{key}={reference!r} has no {_CONFIG} with *.safetensors beside it: give a Hugging Face folder; "
            "pickled weights (*.bin) are not loaded, save them anew with transformers"
        )
    if folder.local_path() is None and read_manifest(folder) is None:
        raise ConfigError(
            f"{key}={reference!r} is remote, and not published by this package, so that a copy could not be "
            "verified: copy it to a disk that all nodes share"
        )
    vet_folder(folder, key)
    return folder


def foundation_hash(folder: Folder) -> str:
    """SHA-256 of what is read of it: its manifest's where it is published, else every byte is read."""
    if (manifest := read_manifest(folder)) is not None:
        return manifest.sha256
    return content_hash(file_hashes(folder, foundation_files(folder)))


def file_hashes(folder: Folder, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of each of these files, in hex."""
    hashes = {}
    for name in names:
        digest = hashlib.sha256()
        with folder.open(name) as file:
            for chunk in chunks(file):
                digest.update(chunk)
        hashes[name] = digest.hexdigest()
    return hashes


def foundation_files(folder: Folder) -> list[str]:
    """Names of the files that are read of a Hugging Face folder."""
    return [name for name in folder.names() if name.endswith(_READ) and name != MANIFEST]


def check_foundation(folder: Folder, learnt: Learnt, tokenizer: Folder, num_positions: int) -> None:
    """Raises ConfigError where the model is of another kind, too short, or of another vocabulary than the tokens.

    Args:
        folder: of the model.
        learnt: what it is to learn.
        tokenizer: of the tokens. It may have entries after those of the model's own. Where the model has none beside
            it, it must have as many as the model.
        num_positions: that a document of the tokens may need.
    """
    config = foundation_config(folder)
    fits = FAMILIES[learnt]
    if config.model_type not in fits:
        raise ConfigError(
            f"model.folder={folder.url} is a {config.model_type}; objective={learnt} trains {', '.join(fits)}"
        )
    there: int = getattr(config, POSITIONS.get(config.model_type, ""), num_positions)
    if config.model_type == "roberta":
        there -= config.pad_token_id + 1
    if there < num_positions:
        raise ConfigError(
            f"model.folder={folder.url} has {there} positions, fewer than the {num_positions} that a document of the "
            f"tokens may need: prepare rows of {num_positions - there} tokens less"
        )
    _check_vocabulary(folder, config.vocab_size, load_tokenizer(tokenizer).get_vocab())


def _check_vocabulary(folder: Folder, num_entries: int, vocabulary: dict[str, int]) -> None:
    if not VOCABULARY_FILES & set(folder.names()):
        if len(vocabulary) != num_entries:
            raise ConfigError(
                f"model.folder={folder.url} has {num_entries:,} entries, and the tokens {len(vocabulary):,}; no "
                "tokenizer beside the model tells which are the same: put its files there"
            )
        return
    own = find_tokenizer(folder.url).tokenizer.get_vocab()
    if differing := sum(vocabulary.get(entry) != number for entry, number in own.items()):
        raise ConfigError(
            f"model.folder={folder.url} has a vocabulary of {len(own):,} entries, of which {differing:,} are not, or "
            f"not with their ids, among the {len(vocabulary):,} of the tokens: prepare them with "
            f"prepare.tokenizer.folder={folder.url}"
        )


def foundation_config(folder: Folder) -> Any:
    """The transformers config of the folder. Raises ConfigError where there is no such architecture."""
    from transformers import AutoConfig

    plain = folder.read_json(_CONFIG)
    try:
        return AutoConfig.for_model(**plain)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{folder.url}/{_CONFIG} is of no architecture that transformers has: {error}") from error
