"""Hugging Face folders of a model being trained."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from llmcore.storage import Folder, publish, read_manifest
from llmcore.train.engine import Engine

__all__ = ["export_model", "prune_exports", "publish_model"]

MODEL = "model"


def export_model(engine: Engine, folder: Folder, tokenizer: Path, card: str, about: Mapping[str, Any]) -> None:
    """Publishes the model as `config.json`, safetensors, the tokenizer's files and a model card. A collective.

    What plain transformers loads from it computes what the engine's model does.
    """

    def write(state: dict[str, Tensor]) -> None:
        with publish(folder, MODEL, about) as publication, publication.staging() as staged:
            engine.model.save_pretrained(staged, state_dict=state)  # type: ignore[operator]
            for file in tokenizer.iterdir():
                if file.is_file() and file.name != "manifest.json":
                    shutil.copyfile(file, staged / file.name)
            (staged / "README.md").write_text(card, encoding="utf-8")

    engine.on_full_weights(write)


def publish_model(source: Folder, target: Folder) -> str:
    """Copies a published model folder to its lasting place; returns the hash of its manifest."""
    manifest = read_manifest(source)
    assert manifest is not None, source.url
    there = read_manifest(target)
    if there is None or there.files != manifest.files:
        with publish(target, MODEL, manifest.about) as publication, publication.staging() as staged:
            for name in manifest.files:
                (staged / name).write_bytes(source.read_bytes(name))
        there = read_manifest(target)
    assert there is not None, target.url
    return there.sha256


def prune_exports(exports: Folder, keep: set[str]) -> None:
    """Deletes all exports but those named."""
    for name in exports.names():
        if name not in keep:
            exports.delete(f"{name}/manifest.json")
            exports.delete(name)
