"""Hugging Face folders of a model being trained."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, distributed

from llmcore.errors import CheckpointError
from llmcore.storage import Folder, publish
from llmcore.train.engine import Engine
from llmcore.train.kept import MODEL
from llmcore.train.model_folder import SHARD_BYTES, shard_layouts, write_architecture, write_weights
from llmcore.train.snapshot import kept_buffers
from llmcore.train.tensor_files import Layout, TensorSpec

__all__ = ["CARD", "export_model"]

CARD = "README.md"


def export_model(
    engine: Engine,
    folder: Folder,
    tokenizer: Path,
    card: str,
    about: Mapping[str, Any],
    *,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Publishes the model as `config.json`, safetensors, the tokenizer's files and a model card. A collective.

    What plain transformers loads from it computes what the engine's model does. Of a sharded model one parameter is
    whole at a time, and goes to the storage at once. Raises CheckpointError, on every rank.
    """
    layouts = shard_layouts(_specs(engine), shard_bytes)
    weights = _whole_tensors(engine, layouts)
    told: list[str | None] = [None]
    if distributed.get_rank() == 0:
        try:
            with publish(folder, MODEL, about) as publication:
                with publication.staging() as staged:
                    write_architecture(engine.model, tokenizer, staged)
                publication.write_bytes(CARD, card.encode())
                for entry in write_weights(folder, layouts, weights):
                    publication.add(entry)
        except Exception as error:
            told = [f"export {folder.url} is not written: {error}"]
    for _ in weights:  # the other ranks' part; and rank 0's, where it could not write
        pass
    distributed.broadcast_object_list(told)
    if told[0] is not None:
        raise CheckpointError(told[0])


def _specs(engine: Engine) -> dict[str, TensorSpec]:
    """What is in the files: each parameter once, by its first name, and the buffers that are state."""
    parameters = {
        name: TensorSpec(parameter.dtype, tuple(getattr(parameter, "ds_shape", parameter.shape)))
        for name, parameter in engine.model.named_parameters()
    }
    return parameters | {name: TensorSpec.of(buffer) for name, buffer in kept_buffers(engine).items()}


def _whole_tensors(engine: Engine, layouts: Mapping[str, Layout]) -> Iterator[Tensor]:
    """The model's tensors on the CPU, in the layouts' order; each is good until the next is asked for. A collective."""
    parameters, buffers = dict(engine.model.named_parameters()), kept_buffers(engine)
    engine.let_go()
    for name in (name for layout in layouts.values() for name in layout.specs):
        if name in buffers:
            yield buffers[name].detach().cpu().contiguous()
        else:
            with engine.whole(parameters[name]) as tensor:
                yield tensor.detach().cpu().contiguous()
