"""The Hugging Face folder of a checkpoint, without the run's job: no engine, no optimizer, one parameter at a time."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from llmcore.errors import CheckpointError
from llmcore.storage import Folder, Manifest, Publication, publish, read_manifest, readable_json, verify_files
from llmcore.train.architecture import ARCHITECTURE
from llmcore.train.export import CARD
from llmcore.train.fragment_reader import FragmentReader
from llmcore.train.fragments import WEIGHT
from llmcore.train.kept import MODEL
from llmcore.train.model_folder import CONFIG, SHARD_BYTES, shard_layouts, write_weights
from llmcore.train.precision import DTYPES
from llmcore.train.resident import Fragment
from llmcore.train.tensor_files import Layout, TensorSpec

__all__ = ["export_checkpoint"]


def export_checkpoint(
    run: Folder, checkpoint: Folder, manifest: Manifest, target: Folder, *, shard_bytes: int = SHARD_BYTES
) -> None:
    """Publishes a verified checkpoint's weights, in the precision it trained in, as a model folder.

    Raises StorageError, and CheckpointError where the run's architecture is not there.
    """
    dtype = DTYPES[manifest.about["precision"]]
    described: dict[str, Any] = manifest.about["model"]
    with FragmentReader(checkpoint, manifest) as reader, publish(target, MODEL, described["about"]) as publication:
        _copy_architecture(run / ARCHITECTURE, publication, dtype)
        publication.write_bytes(CARD, described["card"].encode())
        specs = {name: TensorSpec(dtype, shape) for name, shape in reader.shapes.items()}
        buffers = {name: reader.buffer(name) for name in reader.buffers}
        specs |= {name: TensorSpec.of(buffer) for name, buffer in buffers.items()}
        layouts = shard_layouts(dict(sorted(specs.items())), shard_bytes)
        for entry in write_weights(target, layouts, _tensors(reader, layouts, buffers)):
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


def _tensors(reader: FragmentReader, layouts: Mapping[str, Layout], buffers: Mapping[str, Tensor]) -> Iterator[Tensor]:
    for layout in layouts.values():
        for name, spec in layout.specs.items():
            if name in buffers:
                yield buffers[name]
                continue
            weight = torch.empty(math.prod(spec.shape), dtype=torch.float32)
            reader.read([Fragment.whole(name, spec.shape, {WEIGHT: weight})])
            yield weight.to(spec.dtype)
