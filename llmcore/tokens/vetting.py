"""A look at a folder of Hugging Face's files before transformers reads them: it may come from a stranger."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmcore.errors import ConfigError
from llmcore.storage import Folder, parsed_json

__all__ = ["json_object", "vet_files"]

_TOKENIZER = "tokenizer_config.json"
_LARGEST_JSON = 1 << 29
"""Bytes; the largest tokenizers have some 40 million."""
_FILES_OF_TOKENIZERS = ("merges_file", "spm_file", "source_spm", "target_spm", "tokenizer_file", "vocab_file")


def vet_files(folder: Folder, where: str) -> None:
    """Raises ConfigError where the files of a tokenizer or model would have more read or run than themselves.

    That is a link out of the folder, a path to a file elsewhere, code in place of one of transformers' own tokenizers,
    or JSON that would fill the memory. The message begins with `where`.
    """
    names = folder.names()
    _check_links(folder, where)
    for name in names:
        if name.endswith(".json") and (size := folder.size(name)) > _LARGEST_JSON:
            raise ConfigError(f"{where}: {name} has {size:,} bytes, which no model's has: take another one")
    if _TOKENIZER in names:
        _check_tokenizer(json_object(folder, _TOKENIZER, where), where)


def json_object(folder: Folder, name: str, where: str) -> dict[str, Any]:
    """The object in a JSON file. Raises ConfigError where there is none."""
    try:
        found: Any = parsed_json(folder.read_bytes(name))
    except ValueError as error:
        raise ConfigError(f"{where}: {name} is no JSON that can be read ({error})") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: {name} is a {type(found).__name__}, where an object is expected")
    return found


def _check_links(folder: Folder, where: str) -> None:
    """Links may lead to files of the folder, and, in the hub's own cache, to its blobs beside the snapshots."""
    local = folder.local_path()
    if local is None:
        return
    root = local.resolve()
    allowed = [root, root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [root]
    for file in root.iterdir():
        if file.is_symlink() and not any(file.resolve().is_relative_to(one) for one in allowed):
            raise ConfigError(f"{where}: {file.name} is a link to {file.resolve()}: copy what is meant into the folder")


def _check_tokenizer(config: Mapping[str, Any], where: str) -> None:
    import transformers

    needs_code = "AutoTokenizer" in (config.get("auto_map") or {})
    if needs_code and not hasattr(transformers, str(config.get("tokenizer_class"))):
        raise ConfigError(
            f"{where} brings code of its own (`auto_map` of {_TOKENIZER}), which is never run: take a model whose "
            "tokenizer transformers has"
        )
    for key in _FILES_OF_TOKENIZERS:
        name = config.get(key)
        if isinstance(name, str) and name != Path(name).name:
            raise ConfigError(
                f"{where}: {key} of {_TOKENIZER} is {name!r}, outside the folder: take the key out, and put the file "
                "beside it"
            )
