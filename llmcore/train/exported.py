"""The Hugging Face folder of a checkpoint, without the run's job: no engine, no optimizer, one parameter at a time."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmcore.config.method import MethodSettings
from llmcore.errors import CheckpointError
from llmcore.models.adapters import PlainWeight, adapter_weights, plain_weights
from llmcore.models.folder import FolderWeights
from llmcore.models.initialize import laid_out
from llmcore.models.methods import apply_method
from llmcore.storage import Folder, Manifest, Publication, publish, read_manifest, readable_json, verify_files
from llmcore.train.architecture import ARCHITECTURE
from llmcore.train.export import CARD
from llmcore.train.fragment_reader import FragmentReader
from llmcore.train.fragments import WEIGHT
from llmcore.train.kept import MODEL
from llmcore.train.model_folder import CONFIG, SHARD_BYTES, adapter_layout, shard_layouts, write_adapter, write_weights
from llmcore.train.precision import DTYPES
from llmcore.train.resident import Fragment
from llmcore.train.tensor_files import Layout, TensorSpec

__all__ = ["export_checkpoint"]


def export_checkpoint(
    run: Folder,
    checkpoint: Folder,
    manifest: Manifest,
    target: Folder,
    *,
    base: Path | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Publishes a verified checkpoint's weights, in the precision it trained in, as a model folder.

    What its run did not train is not in it, and comes from `base`, the folder of the model that the run began with; an
    adapter is merged, and stands beside by itself. Raises StorageError, and CheckpointError where the run's
    architecture is not there, or a weight is nowhere.
    """
    dtype = DTYPES[manifest.about["precision"]]
    described: dict[str, Any] = manifest.about["model"]
    with FragmentReader(checkpoint, manifest) as reader, publish(target, MODEL, described["about"]) as publication:
        _copy_architecture(run / ARCHITECTURE, publication, dtype)
        publication.write_bytes(CARD, described["card"].encode())
        parts = _of_all(reader) if base is None else _on_base(reader, base, target, described["about"])
        buffers = {name: reader.buffer(name) for name in reader.buffers}
        specs = parts.specs(parts.plain, dtype) | {name: TensorSpec.of(buffer) for name, buffer in buffers.items()}
        layouts = shard_layouts(dict(sorted(specs.items())), shard_bytes)
        beside = adapter_layout(parts.specs(parts.adapter, dtype))
        tensors = parts.tensors(layouts | beside, buffers, dtype)
        for entry in chain(
            write_weights(target, layouts, tensors), write_adapter(target, parts.model, beside, tensors)
        ):
            publication.add(entry)


def _copy_architecture(folder: Folder, publication: Publication, dtype: torch.dtype) -> None:
    manifest = read_manifest(folder)
    if manifest is None:
        raise CheckpointError(f"{folder.url} is not complete: start the run's command once more, which writes it")
    verify_files(folder, manifest)
    for name in manifest.files:
        data = folder.read_bytes(name)
        if name == CONFIG:  # written by the run's first attempt, which may have had another precision
            data = readable_json(json.loads(data) | {"dtype": str(dtype).removeprefix("torch.")})
        publication.write_bytes(name, data)


@dataclass(frozen=True)
class _Parts:
    """What the weights of a model folder are made of.

    Attributes:
        plain: The weights, by plain transformers' names for them.
        adapter: Those of the adapter's file.
        shapes: Of the parameters that these are made of.
        read: Gives such a parameter, whole, in fp32.
        model: On the meta device, where there is an adapter to be told of.
    """

    plain: Mapping[str, PlainWeight]
    adapter: Mapping[str, PlainWeight]
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]
    model: Any = None

    def specs(self, weights: Mapping[str, PlainWeight], dtype: torch.dtype) -> dict[str, TensorSpec]:
        """What files say of weights."""
        return {name: TensorSpec(dtype, self.shapes[weight.base]) for name, weight in weights.items()}

    def tensors(
        self, layouts: Mapping[str, Layout], buffers: Mapping[str, Tensor], dtype: torch.dtype
    ) -> Iterator[Tensor]:
        """Weights and buffers in the layouts' order."""
        weights = {**self.plain, **self.adapter}
        for name in (name for layout in layouts.values() for name in layout.specs):
            if name in buffers:
                yield buffers[name]
            else:  # what is merged was in the run's precision there
                yield weights[name].merged(*(self.read(part).to(dtype) for part in weights[name].parts))


def _of_all(reader: FragmentReader) -> _Parts:
    """Where all parameters are in the checkpoint."""
    plain = {name: PlainWeight(name) for name in reader.shapes}
    return _Parts(plain, {}, reader.shapes, lambda name: _read_trained(reader, name))


def _read_trained(reader: FragmentReader, name: str) -> Tensor:
    shape = reader.shapes[name]
    weight = torch.empty(math.prod(shape), dtype=torch.float32)
    reader.read([Fragment.whole(name, shape, {WEIGHT: weight})])
    return weight.view(shape)


def _on_base(reader: FragmentReader, base: Path, target: Folder, about: Mapping[str, Any]) -> _Parts:
    """Where the others are in the folder of the model that the run began with, under its names for them."""
    import transformers

    config = transformers.AutoConfig.for_model(**target.read_json(CONFIG))
    model: Any = laid_out(lambda: getattr(transformers, config.architectures[0])._from_config(config))
    stored = FolderWeights(base, model)
    model.tie_weights(recompute_mapping=False)
    model.llmcore_weights = {"initialized": stored.missing, "left_out": stored.unexpected}
    apply_method(model, MethodSettings.model_validate(about["method"]), seed=0)
    plain = plain_weights(model)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    stored_as = {weight.base: name for name, weight in plain.items()}
    trained = {name: shapes[name] for name, parameter in model.named_parameters() if parameter.requires_grad}
    if differing := sorted(trained.items() ^ reader.shapes.items()):
        raise CheckpointError(f"{base} is not what the run began with: {differing[:4]} are on one side only")

    def read(name: str) -> Tensor:
        if name in reader.shapes:
            return _read_trained(reader, name)
        weight = torch.empty(shapes[name], dtype=torch.float32)
        stored.fill(stored_as[name], weight)
        return weight

    return _Parts(plain, adapter_weights(model), shapes, read, model)
