"""A look at a model folder before anything of it is loaded: it may come from a stranger. Needs no torch.

Nothing of a folder is ever run: weights are safetensors alone, and code beside them is not imported. What is left are
files that name others outside the folder, and figures that would take all memory before a weight is compared.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from llmcore.errors import ConfigError
from llmcore.storage import Folder, parsed_json
from llmcore.tokens.vetting import json_object, vet_files

__all__ = ["INDEX", "shard_names", "vet_folder"]

INDEX = "model.safetensors.index.json"
_CONFIG = "config.json"
_WEIGHTS = ".safetensors"
_LARGEST_HEADER = 100_000_000
"""Bytes, as the safetensors library has it."""
_LAYERS = {"decoder_layers", "encoder_layers", "n_layer", "n_layers", "num_decoder_layers", "num_hidden_layers"}
_LAYERS |= {"num_layers"}
_SIZES = {"d_model", "hidden_size", "n_embd", "vocab_size"}  # of weights, each along one of their dimensions
_SIZES |= {"n_head", "num_attention_heads", "num_heads", "num_key_value_heads"}  # which share one


def vet_folder(folder: Folder, key: str = "model") -> None:
    """Raises ConfigError where a model folder, which `key` names to the user, wants what a model has no need of.

    Code of its own instead of an architecture of transformers; files outside the folder, by name or by a link; more
    or larger layers, or a larger vocabulary, than its weights have; a header or JSON file that would fill the memory.
    """
    where = f"{key}={folder.url}"
    vet_files(folder, where)
    names = folder.names()
    config = json_object(folder, _CONFIG, where)
    _check_code(config, where)
    if INDEX in names:
        shard_names(json_object(folder, INDEX, where), where)
    if weights := [name for name in names if name.endswith(_WEIGHTS)]:
        _check_sizes(config, [shape for name in weights for shape in _shapes(folder, name, where)], where)


def shard_names(index: Mapping[str, Any], where: str) -> dict[str, str]:
    """The file that each weight is in, of an index of safetensors. Raises ConfigError for a name outside its folder."""
    found = index.get("weight_map")
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: {INDEX} has no `weight_map`, by weight its file: save the model with transformers")
    for file in found.values():
        if not isinstance(file, str) or "/" in file or "\\" in file or not file.endswith(_WEIGHTS):
            raise ConfigError(
                f"{where}: {INDEX} names {file!r}, which is no *{_WEIGHTS} in the folder: no other file is read, so "
                "take the model from somebody you trust"
            )
    return dict(found)


def _check_code(config: Mapping[str, Any], where: str) -> None:
    """Code beside a model of an architecture that transformers has is never looked at; without one it is needed."""
    from transformers import CONFIG_MAPPING

    family = config.get("model_type")
    if "auto_map" in config and family not in CONFIG_MAPPING:
        raise ConfigError(
            f"{where} brings code of its own (`auto_map` of {_CONFIG}, model_type {family!r}), which is never run: "
            "take a model of an architecture that transformers has"
        )


def _shapes(folder: Folder, name: str, where: str) -> Iterator[list[int]]:
    """The shape of each tensor of a safetensors file."""
    file_bytes = folder.size(name)
    with folder.open(name) as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(_LARGEST_HEADER, file_bytes):
            raise ConfigError(
                f"{where}: {name} has a header of {length:,} bytes in a file of {file_bytes:,}: it is torn or made up"
            )
        text = file.read(length)
    try:
        header: Any = parsed_json(text)
        for tensor, entry in header.items():
            if tensor != "__metadata__":
                first, last = entry["data_offsets"]
                if not 0 <= first <= last <= file_bytes - 8 - length:
                    raise ValueError(f"{tensor} is said to be at the bytes {first} to {last}")
                yield [int(size) for size in entry["shape"]]
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {name} has no header of a safetensors file ({error})") from error


def _check_sizes(config: Mapping[str, Any], shapes: list[list[int]], where: str) -> None:
    longest = max((size for shape in shapes for size in shape), default=0)
    for place, value in _numbers(config):
        name = place.rpartition(".")[2]
        if name in _LAYERS and value > len(shapes):
            raise ConfigError(f"{where}: {place} of {_CONFIG} is {value:,}, and its files have {len(shapes):,} weights")
        if name in _SIZES and not 1 <= value <= longest:
            raise ConfigError(
                f"{where}: {place} of {_CONFIG} is {value:,}, and no weight in its files is longer than {longest:,}: "
                "they belong to another model"
            )


def _numbers(config: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, int]]:
    for key, value in config.items():
        if isinstance(value, int) and not isinstance(value, bool):
            yield f"{place}{key}", value
        elif isinstance(value, dict):
            yield from _numbers(value, f"{place}{key}.")
