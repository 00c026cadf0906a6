"""All documents in one call of FlashAttention's kernel: what each by itself gives, and no other moves it."""

from collections.abc import Sequence
from copy import deepcopy
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from llmcore.config.model import ModelSettings
from llmcore.models.attention import _at_once, _by_size, _has_kernel, _Rule
from llmcore.models.build import build_causal_lm, model_config
from llmcore.models.packed import PackedBatch, hidden_states

HEADS, KEY_HEADS, DIM = 4, 2, 64
LENGTHS, SOURCES = (7, 32, 1, 30, 64, 260, 40, 32, 5), (3, 32, 9, 64, 2, 33, 300, 1, 20)
CASES = [*product([True, False], [None, 5], [False]), (False, None, True)]


def _given(lengths: Sequence[int], sources: Sequence[int], device: torch.device) -> list[Tensor]:
    generator = torch.Generator(device).manual_seed(0)
    sizes = ((sum(lengths), HEADS), (sum(sources), KEY_HEADS), (sum(sources), KEY_HEADS))
    return [torch.randn(*size, DIM, generator=generator, device=device).bfloat16() for size in sizes]


@pytest.mark.parametrize(("is_causal", "window", "crosses"), CASES)
def test_the_kernel_gives_what_blocks_give_in_fp32(
    gpu: torch.device, is_causal: bool, window: int | None, crosses: bool
) -> None:
    sources = SOURCES if crosses else LENGTHS
    given = _given(LENGTHS, sources, gpu)
    rule = _Rule(is_causal, window, None, 0.0, None)
    assert _has_kernel(given[0], rule)
    half = [x.clone().requires_grad_() for x in given]
    whole = [x.float().requires_grad_() for x in given]
    ours, exact = _at_once(*half, LENGTHS, sources, rule), _by_size(*whole, LENGTHS, sources, rule)
    assert torch.allclose(ours.float(), exact, atol=2e-2, rtol=0)
    weights = torch.randn_like(exact)
    (ours.float() * weights).sum().backward()
    (exact * weights).sum().backward()
    for one, other in zip(half, whole, strict=True):
        assert one.grad is not None and other.grad is not None
        assert (one.grad.float() - other.grad).norm() < 0.01 * other.grad.norm()


def test_what_the_kernel_cannot_goes_by_blocks(gpu: torch.device) -> None:
    [query, *_] = _given(LENGTHS, LENGTHS, gpu)
    plain = _Rule(True, None, None, 0.0, None)
    assert not _has_kernel(query.float(), plain)
    assert not _has_kernel(query, plain._replace(dropout=0.1))
    assert not _has_kernel(query, plain._replace(bias=torch.zeros(1, HEADS, 300, 300, device=gpu)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_another_document_does_not_move_this_one_by_a_bit(gpu: torch.device, family: Any, dtype: torch.dtype) -> None:
    wide = {"n_embd": 64, "n_layer": 2, "n_head": 2}
    llama = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    sizes = wide if family == "gpt2" else llama | {"intermediate_size": 128}
    config = model_config(
        ModelSettings(family=family, sizes=sizes), vocab_size=100, sequence_length=64, eos_id=0, pad_id=1
    )
    model = build_causal_lm(config, seed=0).to(gpu, dtype)
    rows = torch.randint(2, 100, (2, 64), device=gpu, generator=torch.Generator(gpu).manual_seed(1))
    lengths, other = [[20, 44], [64]], deepcopy(rows)
    other[0, :20] = rows[0, :20].flip(0) + 1
    with torch.no_grad():
        [said, said_beside] = (hidden_states(model, PackedBatch.of_rows(x, lengths)) for x in (rows, other))
    assert torch.equal(said.flatten(0, 1)[20:], said_beside.flatten(0, 1)[20:])
    assert not torch.equal(said.flatten(0, 1)[:20], said_beside.flatten(0, 1)[:20])
