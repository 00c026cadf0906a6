"""Models by settings or from a folder. The vocabulary's facts come from the tokenizer, never from a config."""

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
)

from llmcore.config.model import ModelSettings
from llmcore.config.pretrain import FAMILIES, Learnt
from llmcore.errors import ConfigError
from llmcore.models.attention import ATTENTION, bound_position_bias
from llmcore.models.folder import FolderWeights
from llmcore.models.foundation import POSITIONS
from llmcore.models.initialize import Home, laid_out, materialize, whole_shape
from llmcore.tokens.shards import TokenShards

__all__ = [
    "build_causal_lm",
    "build_classifier",
    "build_language_model",
    "build_span_reader",
    "build_writer",
    "config_for_tokens",
    "lay_out_language_model",
    "load_language_model",
    "make_model",
    "model_config",
    "num_parameters",
]

_AUTO: dict[Learnt, Any] = {
    "causal_lm": AutoModelForCausalLM,
    "fill_in_the_middle": AutoModelForCausalLM,
    "masked_lm": AutoModelForMaskedLM,
    "next_sentence": AutoModelForPreTraining,
    "span_corruption": AutoModelForSeq2SeqLM,
}
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_DEFAULTS: dict[str, dict[str, Any]] = {
    # The same tanh approximation as GPT-2's `gelu_new`, as one kernel.
    "gpt2": {"activation_function": "gelu_pytorch_tanh", "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "llama": {"tie_word_embeddings": True},
    "qwen3": {"tie_word_embeddings": True},
    "bert": _NO_DROPOUT,
    "roberta": _NO_DROPOUT,
    "modernbert": {},
    "t5": {"dropout_rate": 0.0},
    "bart": {"dropout": 0.0},
}
_DERIVED = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "num_labels")


def model_config(settings: ModelSettings, *, vocab_size: int, sequence_length: int, eos_id: int, pad_id: int) -> Any:
    """The transformers config of the settings; raises `ConfigError` for a size the family does not have."""
    family = settings.family
    assert family is not None, "a model from a folder has a config of its own"
    known = set(inspect.signature(type(AutoConfig.for_model(family)).__init__).parameters)
    known |= set(AutoConfig.for_model(family).to_dict())
    for key in settings.sizes:
        if key in _DERIVED or key == POSITIONS.get(family):
            raise ConfigError(f"model.sizes.{key} comes from the tokens: leave it out")
        if key not in known:
            raise ConfigError(f"model.sizes.{key} is no field of a {family} config: see transformers' {family} page")
    derived: dict[str, Any] = {
        "vocab_size": vocab_size,
        "bos_token_id": eos_id,
        "eos_token_id": eos_id,
        "pad_token_id": pad_id,
    }
    if family in POSITIONS:
        # RoBERTa's first position comes after that of its padding.
        derived[POSITIONS[family]] = sequence_length + (pad_id + 1 if family == "roberta" else 0)
    if family in ("t5", "bart"):  # What stands before a decoder's first token, by each family's custom.
        derived["decoder_start_token_id"] = pad_id if family == "t5" else eos_id
    return AutoConfig.for_model(family, **_DEFAULTS[family] | settings.all_sizes() | derived)


def config_for_tokens(settings: ModelSettings, shards: TokenShards, num_extra_positions: int) -> Any:
    """The transformers config of the settings for rows of token shards, and so many positions more."""
    special: dict[str, int] = shards.about["special_ids"]
    return model_config(
        settings,
        vocab_size=shards.vocab_size,
        sequence_length=shards.sequence_length + num_extra_positions,
        eos_id=special["end"],
        pad_id=special["pad"],
    )


def make_model(auto: Any, config: Any, *, seed: int, home: Home | None = None, folder: Path | None = None) -> nn.Module:
    """A model of one of transformers' auto classes, in fp32: the weights of a folder, else random ones.

    Random weights are the same for one seed, on every rank; each goes to its home before the next one is made. The
    model's `llmcore_weights` says of which the folder had none, and what of the folder was left out.
    """
    model = _laid_out(auto, config)
    stored = FolderWeights(folder, model) if folder is not None else None
    materialize(model, seed=seed, home=home, stored=stored)
    if stored is not None:
        model.llmcore_weights = {"initialized": stored.missing, "left_out": stored.unexpected}
    return model  # type: ignore[no-any-return]


def _laid_out(auto: Any, config: Any) -> Any:
    model = laid_out(
        lambda: auto.from_config(config, attn_implementation=ATTENTION, dtype=torch.float32, trust_remote_code=False)
    )
    bound_position_bias(model)
    return model


def build_language_model(learnt: Learnt, config: Any, *, seed: int, home: Home | None = None) -> nn.Module:
    """A model for an objective with random weights, the same on every rank for one seed."""
    return make_model(_AUTO[learnt], config, seed=seed, home=home)


def lay_out_language_model(learnt: Learnt, config: Any) -> nn.Module:
    """The same on the meta device: its shapes, without memory for them."""
    model: Any = _laid_out(_AUTO[learnt], config)
    model.tie_weights(recompute_mapping=False)
    return model  # type: ignore[no-any-return]


def load_language_model(
    learnt: Learnt, folder: Path, *, vocab_size: int, seed: int, home: Home | None = None
) -> nn.Module:
    """A model for an objective with the weights of a local Hugging Face folder, in fp32.

    Embeddings of entries that the vocabulary has beyond the model's own begin near the mean of the others; they and a
    head that the folder has no weights of are random, the same on every rank for one seed.
    """
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    config.vocab_size = max(vocab_size, config.vocab_size)
    return make_model(_AUTO[learnt], config, seed=seed, home=home, folder=folder)


def build_causal_lm(config: Any, *, seed: int, home: Home | None = None) -> nn.Module:
    """A decoder with random weights, the same on every rank for one seed."""
    return build_language_model("causal_lm", config, seed=seed, home=home)


def build_classifier(
    folder: Path,
    *,
    label_names: list[str],
    seed: int,
    random_weights: bool,
    multi_label: bool = False,
    home: Home | None = None,
) -> nn.Module:
    """The architecture of a model folder with a classification head: its weights, or random ones.

    The head's weights are random either way, and the same for one seed.
    """
    config = AutoConfig.from_pretrained(
        folder,
        num_labels=len(label_names),
        id2label=dict(enumerate(label_names)),
        label2id={name: index for index, name in enumerate(label_names)},
        problem_type="multi_label_classification" if multi_label else "single_label_classification",
        trust_remote_code=False,
    )
    stored = None if random_weights else folder
    return make_model(AutoModelForSequenceClassification, config, seed=seed, home=home, folder=stored)


def build_span_reader(folder: Path, *, seed: int, random_weights: bool, home: Home | None = None) -> nn.Module:
    """The same with a head for the first and the last token of a span. Raises ConfigError where the family has none."""
    config = AutoConfig.from_pretrained(folder, num_labels=2, trust_remote_code=False)
    if type(config) not in AutoModelForQuestionAnswering._model_mapping or config.is_encoder_decoder:
        raise ConfigError(
            f"{folder} is a {config.model_type}, which has no head for spans here: take an encoder, or another decoder"
        )
    stored = None if random_weights else folder
    return make_model(AutoModelForQuestionAnswering, config, seed=seed, home=home, folder=stored)


def build_writer(folder: Path, *, seed: int, random_weights: bool, home: Home | None = None) -> nn.Module:
    """A decoder or an encoder-decoder with its own head: its weights, or random ones.

    Raises:
        ConfigError: The folder has an encoder, which reads and does not write.
    """
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if config.model_type in FAMILIES["masked_lm"]:
        raise ConfigError(
            f"{folder} is a {config.model_type}, an encoder, which cannot write: take a decoder or an encoder-decoder"
        )
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    return make_model(auto, config, seed=seed, home=home, folder=None if random_weights else folder)


def num_parameters(model: nn.Module) -> int:
    """Parameters, tied ones once, also where this rank holds a share of them."""
    return sum(whole_shape(parameter).numel() for parameter in model.parameters())
