"""Trained models with a head of a task, in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llmcore.errors import CheckpointError
from llmcore.tasks.base import Features, Reader, batches_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["HeadPredictor", "load_head"]


class _Answering(Protocol):
    """A task whose head says of each example all that there is to say."""

    def judged(self, reader: Reader, rows: "pa.Table") -> Features:
        """Rows as examples, one for each."""

    def answers(self, model: Any, examples: Sequence[Any]) -> Mapping[str, Sequence[Any]]:
        """Columns of predictions, a value for each example."""


def load_head(auto: Any, folder: Path, kind: str) -> Any:
    """A model of one of transformers' auto classes from an exported folder, in fp32, on this process' own device.

    Raises:
        CheckpointError: A weight is missing from the folder, as where it has another head.
    """
    import torch

    from llmcore.models.attention import ATTENTION, bound_position_bias
    from llmcore.models.device import own_device

    model, info = auto.from_pretrained(
        folder,
        attn_implementation=ATTENTION,
        dtype=torch.float32,
        output_loading_info=True,
        trust_remote_code=False,
        use_safetensors=True,
    )
    if info["missing_keys"]:
        raise CheckpointError(f"{folder} is no {kind} model: weights {sorted(info['missing_keys'])} are missing")
    bound_position_bias(model)
    return model.to(own_device()).eval()


@dataclass(frozen=True)
class HeadPredictor:
    """A model whose head answers, and how it reads."""

    task: _Answering
    model: Any
    reader: Reader

    def predict(self, rows: "pa.Table", *, batch_tokens: int) -> tuple[dict[str, Any], int]:
        """The task's `answers` to all rows, in their order; and how many rows were cut."""
        import torch

        examples, num_truncated = self.task.judged(self.reader, rows)
        columns: dict[str, list[Any]] = {}
        for batch in batches_of(examples, batch_tokens):
            with torch.inference_mode():
                told = self.task.answers(self.model, [examples[index] for index in batch])
            for name, values in told.items():
                column = columns.setdefault(name, [None] * len(examples))
                for index, value in zip(batch, values, strict=True):
                    column[index] = value
        return dict(columns), num_truncated
