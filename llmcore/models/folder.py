"""The weights of a Hugging Face folder, read tensor by tensor: no process ever holds all of them for it."""

import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming, rename_source_key
from transformers.modeling_utils import LoadStateDictInfo

from llmcore.errors import CheckpointError, ConfigError
from llmcore.models.vetting import INDEX, shard_names

__all__ = ["INDEX", "FolderWeights"]

_SINGLE = "model.safetensors"
_LAYER = re.compile(r"\.\d+\.")


class FolderWeights:
    """What a folder has of a model's weights, under the model's own names.

    Names are matched as `from_pretrained` does it: old names are renamed, a base model fits into one with a head and
    the other way round, and one of several tied names is enough.

    Attributes:
        missing: Parameters that are not there, and are initialized: those of a new head.
        unexpected: Stored weights that the model has no place for, and that are left out: those of another head.
    """

    def __init__(self, folder: Path, model: PreTrainedModel) -> None:
        """Reads names and shapes alone. `model` is laid out on the meta device, its weights not yet tied.

        Raises:
            CheckpointError: There are no safetensors, or layers are missing from them.
            ConfigError: A weight has another shape than the model's.
        """
        self._folder = folder
        self._files = _files(folder)
        self._open: Callable[[str], Any] = cache(lambda file: safe_open(str(folder / file), "pt"))
        wanted = model.state_dict()
        vocab_size = model.config.get_text_config().vocab_size
        names = {key: _name(key, model, wanted) for key in self._files}
        self._keys = {name: key for key, name in names.items() if name in wanted}
        sources: dict[str, str] = model.all_tied_weights_keys
        self._tied: dict[str, list[str]] = {}
        for target, source in sources.items():
            self._tied.setdefault(source, []).append(target)
        self._shapes: dict[str, tuple[int, ...]] = {}
        for name, key in self._keys.items():
            stored: Any = self._open(self._files[key])
            shape = tuple(stored.get_slice(key).get_shape())
            self._shapes[name] = shape
            if not _fits(shape, tuple(wanted[name].shape), vocab_size):
                raise ConfigError(
                    f"{folder}: {key} is {list(shape)} there, and the model's is {list(wanted[name].shape)}: the sizes "
                    "of the model must be those of the folder, but for a vocabulary that grows"
                )
        info = LoadStateDictInfo(
            missing_keys={name for name in wanted if not self._stored_as(sources.get(name, name))},
            unexpected_keys={key for key, name in names.items() if name not in wanted},
            mismatched_keys=set(),
            error_msgs=[],
            conversion_errors={},
            skipped_pp_keys=set(),
        )
        model._adjust_missing_and_unexpected_keys(info)
        self.missing, self.unexpected = sorted(info.missing_keys), sorted(info.unexpected_keys)
        if layers := [name for name in self.missing if _LAYER.search(name)]:
            raise CheckpointError(f"{folder} has only a part of the model: {layers[:5]} are missing from its weights")
        self._wanted = {name: tuple(tensor.shape) for name, tensor in wanted.items()}

    def whole(self, name: str) -> bool:
        """Whether all of a parameter is stored; false too where a vocabulary has grown."""
        stored = self._stored_as(name)
        return bool(stored) and self._shapes[stored[0]] == self._wanted[name]

    def fill(self, name: str, parameter: Tensor) -> None:
        """Overwrites a parameter with what is stored of it, if anything is, in the parameter's number format.

        Of a vocabulary that has grown, the entries that are stored are overwritten, and the new ones begin near their
        mean, which makes none of them likely at first (Hewitt 2021).

        Raises:
            CheckpointError: Names that the model ties are stored with different values.
        """
        stored = self._stored_as(name)
        if not stored:
            return
        shape = self._shapes[stored[0]]
        part = parameter[tuple(slice(size) for size in shape)]
        part.copy_(self._read(stored[0]))
        for dim, (known, size) in enumerate(zip(shape, parameter.shape, strict=True)):
            if known < size:
                new = parameter.narrow(dim, known, size - known)
                new.mul_(1e-3).add_(part.mean(dim, keepdim=True))
        for alias in stored[1:]:
            if not torch.equal(part, self._read(alias).to(part.dtype)):
                raise CheckpointError(
                    f"{self._folder}: {self._keys[name]} and {self._keys[alias]} differ, and its config.json ties them:"
                    " set tie_word_embeddings to false there"
                )

    def _stored_as(self, name: str) -> list[str]:
        """The names under which a parameter is stored: its own, and those that are tied to it."""
        return [alias for alias in [name, *self._tied.get(name, [])] if alias in self._keys]

    def _read(self, name: str) -> Tensor:
        key = self._keys[name]
        tensor: Tensor = self._open(self._files[key]).get_tensor(key)
        return tensor


def _files(folder: Path) -> dict[str, str]:
    """The file that each stored weight is in."""
    if (folder / INDEX).is_file():
        index = shard_names(json.loads((folder / INDEX).read_text(encoding="utf-8")), str(folder))
        if absent := sorted(file for file in set(index.values()) if not (folder / file).is_file()):
            raise CheckpointError(f"{folder}: {absent} are named by {INDEX} and are not there")
        return index
    if not (folder / _SINGLE).is_file():
        raise CheckpointError(f"{folder} has neither {_SINGLE} nor {INDEX}: save the model as safetensors")
    with safe_open(str(folder / _SINGLE), "pt") as file:
        return dict.fromkeys(file.keys(), _SINGLE)


def _name(key: str, model: PreTrainedModel, wanted: Mapping[str, Any]) -> str:
    """The model's name of a stored weight."""
    if key in wanted:
        return key
    conversions = get_model_conversion_mapping(model)
    renamings = [entry for entry in conversions if isinstance(entry, WeightRenaming)]
    merging = [entry for entry in conversions if not isinstance(entry, WeightRenaming)]
    name, merged = rename_source_key(key, renamings, merging, model.base_model_prefix, wanted)
    if merged is not None:
        raise ConfigError(f"{key} is stored in parts that transformers merges: load and save the model with it once")
    return str(name)


def _fits(stored: tuple[int, ...], wanted: tuple[int, ...], vocab_size: int) -> bool:
    return len(stored) == len(wanted) and all(
        has == wants or (has < wants and wants == vocab_size) for has, wants in zip(stored, wanted, strict=True)
    )
