"""Hugging Face folders of a model being trained."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor, distributed

from llmcore.errors import CheckpointError
from llmcore.models.adapters import PlainWeight, adapter_weights, plain_weights
from llmcore.models.quantized import dequantized
from llmcore.redaction import redact
from llmcore.storage import Folder, publish
from llmcore.train.engine import Engine
from llmcore.train.kept import MODEL
from llmcore.train.model_folder import (
    SHARD_BYTES,
    adapter_layout,
    shard_layouts,
    weight_specs,
    write_adapter,
    write_architecture,
    write_weights,
)
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

    What plain transformers loads from it computes what the engine's model does: adapters are merged, and stand beside
    it by themselves, for peft, in `adapter/`. Of a sharded model one weight is whole at a time, with its adapter, and
    goes to the storage at once. Raises CheckpointError, on every rank.
    """
    plain, stored = plain_weights(engine.model), adapter_weights(engine.model)
    layouts = shard_layouts(weight_specs(engine.model, plain) | _buffer_specs(engine), shard_bytes)
    beside = adapter_layout(weight_specs(engine.model, stored))
    # One for both: on rank 0 the last weight is whole until the next is asked for, and both may have it.
    tensors = _whole_tensors(engine, plain | stored, layouts | beside)
    told: list[str | None] = [None]
    if distributed.get_rank() == 0:
        try:
            with publish(folder, MODEL, about) as publication:
                with publication.staging() as staged:
                    write_architecture(engine.model, tokenizer, staged)
                publication.write_bytes(CARD, redact(card).encode())
                for entry in chain(
                    write_weights(folder, layouts, tensors), write_adapter(folder, engine.model, beside, tensors)
                ):
                    publication.add(entry)
        except Exception as error:
            told = [f"export {folder.url} is not written: {error}"]
    for _ in tensors:  # the other ranks' part; and rank 0's, where it could not write
        pass
    distributed.broadcast_object_list(told)
    if told[0] is not None:
        raise CheckpointError(told[0])


def _buffer_specs(engine: Engine) -> dict[str, TensorSpec]:
    """Of the buffers that are state."""
    return {name: TensorSpec.of(buffer) for name, buffer in kept_buffers(engine).items()}


def _whole_tensors(
    engine: Engine, weights: Mapping[str, PlainWeight], layouts: Mapping[str, Layout]
) -> Iterator[Tensor]:
    """Weights and buffers on the CPU, in the layouts' order; each is good until the next is asked for. A collective."""
    parameters, buffers = dict(engine.model.named_parameters()), kept_buffers(engine)
    engine.let_go()
    for name in (name for layout in layouts.values() for name in layout.specs):
        if name in buffers:
            yield buffers[name].detach().cpu().contiguous()
            continue
        with ExitStack() as stack:
            whole = [stack.enter_context(engine.whole(parameters[part])) for part in weights[name].parts]
            yield weights[name].merged(*(dequantized(tensor).detach() for tensor in whole)).cpu().contiguous()
