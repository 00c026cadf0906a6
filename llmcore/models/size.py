"""How many parameters a model has, found on the meta device: without memory for them."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig

from llmcore.config.model import ModelSettings
from llmcore.config.pretrain import ObjectiveName
from llmcore.models.build import build_language_model, model_config, num_parameters
from llmcore.models.foundation import POSITIONS

__all__ = ["TokenFacts", "count_parameters", "usual_facts"]


@dataclass(frozen=True)
class TokenFacts:
    """What a model takes from the tokens: see `model_config`."""

    vocab_size: int
    sequence_length: int
    eos_id: int
    pad_id: int


def usual_facts(settings: ModelSettings) -> TokenFacts:
    """What the family usually has: the vocabulary and positions of the model that it is known by."""
    usual: Any = AutoConfig.for_model(settings.family)
    eos_id = usual.eos_token_id or 0
    pad_id = eos_id if usual.pad_token_id is None else usual.pad_token_id
    positions = getattr(usual, POSITIONS.get(usual.model_type, ""), 512)
    return TokenFacts(
        vocab_size=usual.vocab_size,
        sequence_length=positions - (pad_id + 1 if usual.model_type == "roberta" else 0),
        eos_id=eos_id,
        pad_id=pad_id,
    )


def count_parameters(objective: ObjectiveName, settings: ModelSettings, facts: TokenFacts) -> int:
    """Parameters of the model that a pre-training by these settings would build, tied ones once."""
    config = model_config(
        settings,
        vocab_size=facts.vocab_size,
        sequence_length=facts.sequence_length,
        eos_id=facts.eos_id,
        pad_id=facts.pad_id,
    )
    with torch.device("meta"):
        return num_parameters(build_language_model(objective, config, seed=0))
