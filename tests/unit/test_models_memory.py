"""Sizes of layers, whole and in shares."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from llmcore.models.build import make_model
from llmcore.models.memory import model_sizes


def test_sizes_of_a_gpt() -> None:
    sizes = {"n_embd": 8, "n_layer": 3, "n_head": 2, "vocab_size": 300, "n_positions": 16}
    model = make_model(AutoModelForCausalLM, AutoConfig.for_model("gpt2", **sizes), seed=0)
    found = model_sizes(model)
    block = 12 * 8 * 8 + 13 * 8  # matrices of 12 d², and as many as 13 vectors of d
    assert found.num_parameters == 300 * 8 + 16 * 8 + 3 * block + 2 * 8
    assert found.largest_layer == 300 * 8
    assert found.largest_in_backward == 4 * 300 * 8, "the embeddings are the head's too: they have two gradients"
    assert found.largest_vector == 4 * 8
    assert found.vectors == 3 * 13 * 8 + 2 * 8


def test_sizes_of_an_encoder_decoder_in_shares() -> None:
    sizes = {"d_model": 32, "num_layers": 2, "num_heads": 2, "d_ff": 512, "d_kv": 16, "vocab_size": 50}
    config = AutoConfig.for_model("t5", **sizes)
    whole = make_model(AutoModelForSeq2SeqLM, config, seed=0)
    found = model_sizes(whole)
    decoders = 2 * 4 * 32 * 32 + 2 * 32 * 512 + 3 * 32
    assert found.num_parameters == sum(parameter.numel() for parameter in whole.parameters())
    assert found.largest_layer in (decoders, decoders + 2 * 32), "the first block has the relative positions"
    for parameter in whole.parameters():  # as ZeRO-3 leaves them
        parameter.ds_shape = parameter.shape  # type: ignore[attr-defined]
        parameter.data = torch.empty(0)
    assert model_sizes(whole) == found
