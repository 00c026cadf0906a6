"""A model folder as something that writes."""

from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from llmcore.errors import ConfigError
from llmcore.models.attention import bound_position_bias

__all__ = ["load_writer", "way_to_write"]

_CAUSAL = ("ForCausalLM", "LMHeadModel")
_SEQ2SEQ = ("ForConditionalGeneration",)


def way_to_write(architecture: str) -> Literal["causal", "seq2seq"] | None:
    """How a model of a class of transformers writes; None where it does not."""
    if architecture.endswith(_SEQ2SEQ):
        return "seq2seq"
    return "causal" if architecture.endswith(_CAUSAL) else None


def load_writer(folder: Path, *, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    """Model and tokenizer of a local Hugging Face folder.

    Raises:
        ConfigError: it is no model that writes, as an encoder is none; or has no tokenizer, or one of more entries.
    """
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{folder} is no model folder: it needs a config.json of a model ({_brief(error)})"
        ) from error
    name = (config.architectures or ["no architecture"])[0]
    way = way_to_write(name)
    if config.is_encoder_decoder and way == "seq2seq":
        auto: Any = AutoModelForSeq2SeqLM
    elif way == "causal":
        auto = AutoModelForCausalLM
    else:
        raise ConfigError(
            f"{folder} is a {name}, which writes no text: give a causal model ({' or '.join(_CAUSAL)}) or an "
            f"encoder-decoder ({_SEQ2SEQ[0]})"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model = auto.from_pretrained(
            folder, dtype=dtype, attn_implementation="sdpa", trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise ConfigError(f"{folder} cannot be loaded as a {name} with its tokenizer: {_brief(error)}") from error
    if len(tokenizer) > config.vocab_size:
        raise ConfigError(
            f"the tokenizer of {folder} has {len(tokenizer):,} entries and its model {config.vocab_size:,}: they do "
            "not belong together"
        )
    bound_position_bias(model)
    return model.to(device).eval(), tokenizer


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
