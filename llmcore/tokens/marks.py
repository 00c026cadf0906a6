"""Special tokens that objectives write into documents, by the names that tokenizers give them."""

from itertools import count, takewhile
from pathlib import Path
from typing import NamedTuple

from llmcore.errors import ConfigError

__all__ = ["InfillingMarks", "infilling_marks", "sentinels"]

_SENTINELS = ("<|extra_id_{}|>", "<extra_id_{}>")
"""Ours, and T5's."""
_INFILLING = ("<|fim_{}|>", "<fim_{}>")
"""Ours and Qwen's, and StarCoder's."""


class InfillingMarks(NamedTuple):
    """Ids of what stands before a document's prefix, middle and suffix."""

    prefix: int
    middle: int
    suffix: int


def sentinels(tokenizer: Path) -> list[int]:
    """Ids of the sentinels of a Hugging Face tokenizer folder, in their order. Raises ConfigError where it has none."""
    ids = _ids(tokenizer)
    for name in _SENTINELS:
        if found := [ids[text] for text in takewhile(ids.__contains__, map(name.format, count()))]:
            return found
    raise ConfigError(
        f"objective=span_corruption needs a tokenizer with sentinels, {_SENTINELS[0].format(0)} or "
        f"{_SENTINELS[1].format(0)} and so on: train one, or take T5's"
    )


def infilling_marks(tokenizer: Path) -> InfillingMarks:
    """The marks of a Hugging Face tokenizer folder. Raises ConfigError where it has none."""
    ids = _ids(tokenizer)
    for name in _INFILLING:
        texts = [name.format(part) for part in InfillingMarks._fields]
        if all(text in ids for text in texts):
            return InfillingMarks(*(ids[text] for text in texts))
    names = " or ".join(", ".join(name.format(part) for part in InfillingMarks._fields) for name in _INFILLING)
    raise ConfigError(f"objective=fill_in_the_middle needs a tokenizer with {names}: train one, or add these")


def _ids(tokenizer: Path) -> dict[str, int]:
    from transformers import AutoTokenizer

    vocabulary: dict[str, int] = AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False).get_vocab()
    return vocabulary
