"""The architecture of a model whose tokens are not there yet."""

from typing import Any

from transformers import AutoConfig

from llmcore.config.model import ModelSettings
from llmcore.models.build import model_config
from llmcore.models.foundation import POSITIONS

__all__ = ["usual_config"]


def usual_config(settings: ModelSettings, *, vocab_size: int | None = None, sequence_length: int | None = None) -> Any:
    """The transformers config of the settings; a vocabulary and positions that are not given are the family's usual.

    Raises ConfigError for a size that the family does not have.
    """
    usual: Any = AutoConfig.for_model(settings.family)
    eos_id = usual.eos_token_id or 0
    pad_id = eos_id if usual.pad_token_id is None else usual.pad_token_id
    positions = getattr(usual, POSITIONS.get(usual.model_type, ""), 0)
    length = sequence_length or positions - (pad_id + 1 if usual.model_type == "roberta" else 0)
    size = vocab_size or usual.vocab_size
    ids = {"eos_id": min(eos_id, size - 1), "pad_id": min(pad_id, size - 1)}
    return model_config(settings, vocab_size=size, sequence_length=length, **ids)
