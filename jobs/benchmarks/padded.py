"""What a plain transformers loop trains on: shuffled examples, padded to the longest of each batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DataCollatorForSeq2Seq, DataCollatorWithPadding

from llmcore.tasks.text_classification import ClassExample
from llmcore.tasks.text_to_text import WrittenExample

__all__ = ["Padded", "PaddedBatch", "padded_batch", "plain_attention"]

_NOT_LEARNT = -100
"""Label of what transformers' losses leave out."""


@dataclass(frozen=True)
class PaddedBatch:
    """Examples that go through the model at once.

    Attributes:
        inputs: What transformers' models are given, `labels` among it: [examples, longest].
        num_targets: Labels, but for those of padding and prompts.
        num_tokens: Without padding.
        num_places: With it.
    """

    inputs: dict[str, Tensor]
    num_targets: int
    num_tokens: int
    num_places: int

    def to(self, device: torch.device) -> "PaddedBatch":
        """The same batch on a device."""
        return replace(self, inputs={name: tensor.to(device) for name, tensor in self.inputs.items()})


def padded_batch(tokenizer: Any, examples: Sequence[ClassExample | WrittenExample]) -> PaddedBatch:
    """Examples as transformers' own collators pad them; what an encoder-decoder writes is padded for itself."""
    by_head = isinstance(examples[0], ClassExample)
    collate = (DataCollatorWithPadding if by_head else DataCollatorForSeq2Seq)(tokenizer)
    inputs = dict(collate([_plain(example) for example in examples]))
    is_target = inputs["labels"] != _NOT_LEARNT
    seen = [inputs["attention_mask"].bool()]
    if isinstance(examples[0], WrittenExample) and examples[0].encoded:
        seen.append(is_target)
    num_tokens = sum(int(tokens.sum()) for tokens in seen)
    return PaddedBatch(inputs, int(is_target.sum()), num_tokens, sum(tokens.numel() for tokens in seen))


def _plain(example: ClassExample | WrittenExample) -> dict[str, Any]:
    """An example as a plain script would have it."""
    if isinstance(example, ClassExample):
        assert example.classes is not None
        return {"input_ids": example.tokens, "label": example.classes[0]}
    if example.encoded:
        return {"input_ids": example.prompt, "labels": example.answer}
    labels = [_NOT_LEARNT] * len(example.prompt) + [*example.answer]
    return {"input_ids": [*example.prompt, *example.answer], "labels": labels}


def plain_attention(model: Any) -> Any:
    """The same model with PyTorch's scaled dot product attention, which takes a mask; and without a cache."""
    model.set_attn_implementation("sdpa")
    model.config.use_cache = False
    return model


class Padded:
    """The loss that transformers' models compute themselves, as an `objectives.base.Objective`."""

    def num_targets(self, batch: PaddedBatch) -> tuple[int]:
        """Classes or tokens that are learnt."""
        return (batch.num_targets,)

    def num_tokens(self, batch: PaddedBatch) -> int:
        """Tokens of a batch, padding left out."""
        return batch.num_tokens

    def loss_sums(self, model: nn.Module, batch: PaddedBatch) -> Tensor:
        """The model's mean as a sum over the targets, [1]."""
        loss: Tensor = model(**batch.inputs).loss
        return loss.float()[None] * batch.num_targets
