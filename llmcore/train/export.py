"""Hugging Face folders of a model being trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import AutoTokenizer

from llmcore.storage import Folder, publish
from llmcore.train.engine import Engine
from llmcore.train.kept import MODEL

__all__ = ["export_model"]


def export_model(engine: Engine, folder: Folder, tokenizer: Path, card: str, about: Mapping[str, Any]) -> None:
    """Publishes the model as `config.json`, safetensors, the tokenizer's files and a model card. A collective.

    What plain transformers loads from it computes what the engine's model does.
    """

    def write(state: dict[str, Tensor]) -> None:
        with publish(folder, MODEL, about) as publication, publication.staging() as staged:
            engine.model.save_pretrained(staged, state_dict=state)  # type: ignore[operator]
            AutoTokenizer.from_pretrained(tokenizer).save_pretrained(staged)
            (staged / "README.md").write_text(card, encoding="utf-8")

    engine.on_full_weights(write)
