"""What an export needs besides weights, once a run: any checkpoint becomes a model folder without the run's job."""

from pathlib import Path
from typing import Any

from torch import distributed

from llmcore.errors import StorageError
from llmcore.storage import Folder, publish, read_manifest
from llmcore.train.engine import Engine
from llmcore.train.model_folder import write_architecture

__all__ = ["ARCHITECTURE", "publish_architecture"]

ARCHITECTURE = "architecture"
"""A folder of the run: the model's `config.json`, and the tokenizer's files."""


def publish_architecture(engine: Engine, tokenizer: Path, run: Folder) -> None:
    """Publishes them, where they are not there yet. A collective; raises StorageError on every rank."""
    told: list[Any] = [None]
    folder = run / ARCHITECTURE
    if distributed.get_rank() == 0 and read_manifest(folder) is None:
        try:
            with publish(folder, ARCHITECTURE, {}) as publication, publication.staging() as staged:
                write_architecture(engine.model, tokenizer, staged)
        except StorageError as error:
            told = [error]
    distributed.broadcast_object_list(told)
    if told[0] is not None:
        raise told[0]
