"""Tiny models that write, as Hugging Face folders with a tokenizer."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from tests.tiny_run import write_tokenizer

# Machines are shared, and tiny matrices gain nothing from more.
torch.set_num_threads(1)

__all__ = ["FAMILIES", "NUM_POSITIONS", "VOCAB_SIZE", "prompts", "write_writer"]

VOCAB_SIZE, NUM_POSITIONS = 330, 64
_LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": NUM_POSITIONS,
    "initializer_range": 0.3,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": NUM_POSITIONS, "initializer_range": 0.3},
    "llama": _LLAMA,
    "qwen3": {**_LLAMA, "head_dim": 8},
    "t5": {
        "d_model": 32,
        "d_ff": 64,
        "d_kv": 8,
        "num_layers": 2,
        "num_heads": 4,
        "decoder_start_token_id": 1,
        "initializer_factor": 2.0,
    },
    "bart": {
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "max_position_embeddings": NUM_POSITIONS,
        "decoder_start_token_id": 0,
        "forced_eos_token_id": None,
        "init_std": 0.3,
    },
}


def write_writer(folder: Path, family: str, *, seed: int = 0, near_ties: bool = False, **changes: Any) -> Path:
    """A model with random weights; its special tokens are those of the tokenizer: end 0, padding 1.

    With `near_ties` each token of the upper half of the vocabulary has nearly the embedding of one in the lower half.
    """
    write_tokenizer(folder)
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    config = AutoConfig.for_model(family, **{"vocab_size": VOCAB_SIZE, **special, **FAMILIES[family], **changes})
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = auto.from_config(config)
        if near_ties:
            weight, half = model.get_output_embeddings().weight, VOCAB_SIZE // 2
            weight[half:] = weight[:half] * (1 + 2e-7 * torch.randn(half, 1))
    model.save_pretrained(folder)
    return folder


@cache
def _prompts(num: int, longest: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, longest + 1, (num,), generator=generator).tolist()
    return [torch.randint(2, VOCAB_SIZE, (length,), generator=generator).tolist() for length in lengths]


def prompts(num: int, longest: int = 40) -> list[list[int]]:
    """Random prompts of random lengths, always the same."""
    return [list(prompt) for prompt in _prompts(num, longest)]
