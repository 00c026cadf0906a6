"""Tiny models of every family with the objectives that they learn, and a batch for each."""

from typing import Any

import torch

from llmcore.config.model import ModelSettings
from llmcore.config.pretrain import Learnt
from llmcore.models.build import model_config
from llmcore.models.encoder_decoder import PackedPair
from llmcore.models.packed import PackedBatch
from llmcore.objectives.causal_lm import CausalLM
from llmcore.objectives.masked_lm import MaskedBatch, MaskedLM
from llmcore.objectives.next_sentence import NextSentence, PairBatch
from llmcore.objectives.span_corruption import CorruptedBatch, SpanCorruption

__all__ = ["ARCHITECTURES", "batch_for", "documents", "tiny_config"]

VOCAB_SIZE = 96
LENGTHS = (64, 32, 32, 96)
"""Of sizes that attention lays side by side as they are: it computes nothing beside them."""
_DECODER = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
_ENCODER = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
ARCHITECTURES: list[tuple[str, Learnt, dict[str, Any]]] = [
    ("gpt2", "causal_lm", {"n_embd": 64, "n_layer": 3, "n_head": 4}),
    ("llama", "causal_lm", _DECODER | {"num_key_value_heads": 2}),
    ("llama", "causal_lm", _DECODER | {"tie_word_embeddings": False}),
    ("qwen3", "causal_lm", _DECODER | {"num_key_value_heads": 2, "head_dim": 32}),
    ("bert", "masked_lm", _ENCODER),
    ("bert", "next_sentence", _ENCODER),
    ("roberta", "masked_lm", _ENCODER),
    ("modernbert", "masked_lm", _ENCODER),
    ("t5", "span_corruption", {"d_model": 64, "d_ff": 96, "d_kv": 32, "num_layers": 2, "num_heads": 4}),
    (
        "bart",
        "span_corruption",
        {
            "d_model": 64,
            "encoder_layers": 2,
            "decoder_layers": 3,
            "encoder_ffn_dim": 96,
            "decoder_ffn_dim": 80,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
        },
    ),
]


def tiny_config(family: str, sizes: dict[str, Any]) -> Any:
    """The transformers config of one of them."""
    settings = ModelSettings.model_validate({"family": family, "sizes": sizes})
    return model_config(settings, vocab_size=VOCAB_SIZE, sequence_length=96, eos_id=0, pad_id=1)


def documents(lengths: tuple[int, ...]) -> PackedBatch:
    """A row of documents."""
    generator = torch.Generator().manual_seed(0)
    return PackedBatch.of_documents(
        [torch.randint(2, VOCAB_SIZE, (length,), generator=generator).tolist() for length in lengths]
    )


def batch_for(learnt: Learnt) -> tuple[Any, Any]:
    """An objective, and a batch of it; what masks and cuts is not what is tried here."""
    packed = documents(LENGTHS)
    masked = MaskedBatch(packed, torch.arange(0, sum(LENGTHS), 7), packed.tokens.flatten()[::7])
    masks, cuts = MaskedLM.__new__(MaskedLM), SpanCorruption.__new__(SpanCorruption)
    match learnt:
        case "masked_lm":
            return masks, masked
        case "next_sentence":
            return NextSentence(masks), PairBatch(masked, packed.first_tokens()[:3], torch.tensor([0, 1, 0]))
        case "span_corruption":
            return cuts, CorruptedBatch(PackedPair(packed, documents((32, 64, 32, 32))), 200)
        case _:
            return CausalLM(), packed
