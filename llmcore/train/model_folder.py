"""What a Hugging Face folder of a model holds: its architecture, and its weights in shards, parameter by parameter."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from llmcore.models.adapters import PlainWeight, adapter_config
from llmcore.models.folder import INDEX
from llmcore.models.initialize import whole_shape
from llmcore.models.quantized import computed_dtype
from llmcore.storage import FileEntry, Folder, readable_json, write_file
from llmcore.train.tensor_files import Layout, TensorSpec, write_tensors

__all__ = [
    "CONFIG",
    "SHARD_BYTES",
    "adapter_layout",
    "shard_layouts",
    "weight_specs",
    "write_adapter",
    "write_architecture",
    "write_weights",
]

CONFIG = "config.json"
SHARD_BYTES = 2 << 30
_ADAPTER = "adapter/adapter_model.safetensors"
_ADAPTER_CONFIG = "adapter/adapter_config.json"


def write_architecture(model: Any, tokenizer: Path, folder: Path) -> None:
    """Writes `config.json`, what is said of generation, and the tokenizer's files, as `save_pretrained` does."""
    from transformers import AutoTokenizer

    model.config.architectures = [type(model).__name__]
    model.config.dtype = str(model.dtype).removeprefix("torch.")
    model.config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False).save_pretrained(folder)


def weight_specs(model: Any, weights: Mapping[str, PlainWeight]) -> dict[str, TensorSpec]:
    """What files say of weights that are made of a model's parameters, whole or in shares."""
    parameters = dict(model.named_parameters())
    bases = {name: parameters[weight.base] for name, weight in weights.items()}
    return {name: TensorSpec(computed_dtype(base), tuple(whole_shape(base))) for name, base in bases.items()}


def adapter_layout(specs: Mapping[str, TensorSpec]) -> dict[str, Layout]:
    """The file of an adapter of these tensors; none where there are none."""
    return {_ADAPTER: Layout.of(specs, {"format": "pt"})} if specs else {}


def shard_layouts(specs: Mapping[str, TensorSpec], shard_bytes: int = SHARD_BYTES) -> dict[str, Layout]:
    """The files for tensors of these specs, by name: one, or as many as keep each within `shard_bytes` if it can be."""
    shards: list[dict[str, TensorSpec]] = [{}]
    num_bytes = 0
    for name, spec in specs.items():
        if shards[-1] and num_bytes + spec.num_bytes > shard_bytes:
            shards.append({})
            num_bytes = 0
        shards[-1][name] = spec
        num_bytes += spec.num_bytes
    return {
        "model.safetensors" if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors": Layout.of(
            shard, {"format": "pt"}
        )
        for number, shard in enumerate(shards, start=1)
    }


def write_adapter(
    folder: Folder, model: Any, layouts: Mapping[str, Layout], data: Iterable[Tensor]
) -> Iterator[FileEntry]:
    """Writes the folder of a model's adapter as peft has it, where there is one. Raises StorageError."""
    for name, layout in layouts.items():
        yield write_tensors(folder, name, layout, data)
        yield write_file(folder, _ADAPTER_CONFIG, adapter_config(model))


def write_weights(folder: Folder, layouts: Mapping[str, Layout], data: Iterable[Tensor]) -> Iterator[FileEntry]:
    """Writes the shards, and their index where there are several; `data` are the tensors in the layouts' order.

    Each is asked for when it is written. Raises StorageError.
    """
    given = iter(data)
    for name, layout in layouts.items():
        yield write_tensors(folder, name, layout, (next(given) for _ in layout.specs))
    if len(layouts) > 1:
        places = {tensor: name for name, layout in layouts.items() for tensor in layout.specs}
        total = sum(layout.num_bytes for layout in layouts.values())
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
        yield write_file(folder, INDEX, readable_json(index))
