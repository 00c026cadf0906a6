"""Models by settings or from a folder. The vocabulary's facts come from the tokenizer, never from a config."""

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSequenceClassification

from llmcore.config.model import ModelSettings
from llmcore.errors import ConfigError
from llmcore.models.packed import ATTENTION

__all__ = ["build_causal_lm", "build_classifier", "build_masked_lm", "model_config", "num_parameters"]

_POSITIONS = {
    "gpt2": "n_positions",
    "llama": "max_position_embeddings",
    "bert": "max_position_embeddings",
    "roberta": "max_position_embeddings",
    "modernbert": "max_position_embeddings",
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    # The same tanh approximation as GPT-2's `gelu_new`, as one kernel.
    "gpt2": {"activation_function": "gelu_pytorch_tanh", "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "llama": {"tie_word_embeddings": True},
    "bert": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "roberta": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "modernbert": {},
}
_DERIVED = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id", "num_labels")


def model_config(settings: ModelSettings, *, vocab_size: int, sequence_length: int, eos_id: int, pad_id: int) -> Any:
    """The transformers config of the settings; raises `ConfigError` for a size the family does not have."""
    family = settings.family
    known = set(inspect.signature(type(AutoConfig.for_model(family)).__init__).parameters)
    known |= set(AutoConfig.for_model(family).to_dict())
    for key in settings.sizes:
        if key in _DERIVED or key == _POSITIONS[family]:
            raise ConfigError(f"model.sizes.{key} comes from the tokens: leave it out")
        if key not in known:
            raise ConfigError(f"model.sizes.{key} is no field of a {family} config: see transformers' {family} page")
    return AutoConfig.for_model(
        family,
        **_DEFAULTS[family]
        | settings.sizes
        | {
            "vocab_size": vocab_size,
            # RoBERTa's first position comes after that of its padding.
            _POSITIONS[family]: sequence_length + (pad_id + 1 if family == "roberta" else 0),
            "bos_token_id": eos_id,
            "eos_token_id": eos_id,
            "pad_token_id": pad_id,
        },
    )


def build_causal_lm(config: Any, *, seed: int) -> nn.Module:
    """A decoder with random weights, the same on every rank for one seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, attn_implementation=ATTENTION)  # type: ignore[no-any-return]


def build_masked_lm(config: Any, *, seed: int) -> nn.Module:
    """An encoder with a head for masked tokens and random weights, the same on every rank for one seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForMaskedLM.from_config(config, attn_implementation=ATTENTION)  # type: ignore[no-any-return]


def build_classifier(folder: Path, *, label_names: list[str], seed: int, random_weights: bool) -> nn.Module:
    """The architecture of a model folder with a classification head: its weights, or random ones.

    The head's weights are random either way, and the same for one seed.
    """
    labels = {
        "num_labels": len(label_names),
        "id2label": dict(enumerate(label_names)),
        "label2id": {name: index for index, name in enumerate(label_names)},
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if random_weights:
            config = AutoConfig.from_pretrained(folder, **labels)
            return AutoModelForSequenceClassification.from_config(config, attn_implementation=ATTENTION)  # type: ignore[no-any-return]
        return AutoModelForSequenceClassification.from_pretrained(  # type: ignore[no-any-return]
            folder, attn_implementation=ATTENTION, dtype=torch.float32, **labels
        )


def num_parameters(model: nn.Module) -> int:
    """Parameters, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())
