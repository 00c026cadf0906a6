"""A model folder as something that writes."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from llmcore.errors import ConfigError

__all__ = ["load_writer"]

_CAUSAL = ("ForCausalLM", "LMHeadModel")
_SEQ2SEQ = ("ForConditionalGeneration",)


def load_writer(folder: Path, *, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    """Model and tokenizer of a local Hugging Face folder.

    Raises:
        ConfigError: it is no model that writes, as an encoder is none; or has no tokenizer, or one of more entries.
    """
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{folder} is no model folder: it needs a config.json of a model ({_brief(error)})"
        ) from error
    name = (config.architectures or ["no architecture"])[0]
    if config.is_encoder_decoder and name.endswith(_SEQ2SEQ):
        auto: Any = AutoModelForSeq2SeqLM
    elif name.endswith(_CAUSAL):
        auto = AutoModelForCausalLM
    else:
        raise ConfigError(
            f"{folder} is a {name}, which writes no text: give a causal model ({' or '.join(_CAUSAL)}) or an "
            f"encoder-decoder ({_SEQ2SEQ[0]})"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = auto.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder} cannot be loaded as a {name} with its tokenizer: {_brief(error)}") from error
    if len(tokenizer) > config.vocab_size:
        raise ConfigError(
            f"the tokenizer of {folder} has {len(tokenizer):,} entries and its model {config.vocab_size:,}: they do "
            "not belong together"
        )
    return model.to(device).eval(), tokenizer


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
