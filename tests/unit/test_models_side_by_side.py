"""Attention by blocks of about one size is that of each document by itself, gradients too, and no other moves it."""

from collections.abc import Sequence
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from llmcore.models.attention import _by_size, _Rule
from llmcore.models.side_by_side import side_by_side

HEADS, KEY_HEADS, DIM = 4, 2, 16
LENGTHS, SOURCES = (7, 32, 1, 30, 64, 260, 40, 32, 5), (3, 32, 9, 64, 2, 33, 300, 1, 20)
CASES = [*product([True, False], [None, 5], [True, False], [False]), (False, None, False, True)]


def _tokens(num: int, heads: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, heads, DIM, dtype=torch.float64, generator=generator).requires_grad_()


def _apart(size: int) -> Tensor:
    places = torch.arange(size)
    return places[:, None] - places


def _one_by_one(
    query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], key_lengths: Sequence[int], rule: _Rule
) -> Tensor:
    outputs = []
    parts = zip(query.split(list(lengths)), key.split(list(key_lengths)), value.split(list(key_lengths)), strict=True)
    for part in parts:
        q, k, v = (x.transpose(0, 1)[None] for x in part)
        size = q.shape[2]
        seen = torch.ones(size, k.shape[2], dtype=torch.bool)
        if rule.is_causal:
            seen &= _apart(size) >= 0
        if rule.window is not None:
            seen &= _apart(size).abs() < rule.window
        mask = seen if rule.bias is None else rule.bias[:, :, :size, :size].masked_fill(~seen, float("-inf"))
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
        outputs.append(attended[0].transpose(0, 1))
    return torch.cat(outputs)


@pytest.mark.parametrize(("is_causal", "window", "has_bias", "crosses"), CASES)
def test_blocks_give_what_each_document_gives(
    is_causal: bool, window: int | None, has_bias: bool, crosses: bool
) -> None:
    sources = SOURCES if crosses else LENGTHS
    given = [_tokens(sum(LENGTHS), HEADS, 0), *(_tokens(sum(sources), KEY_HEADS, seed) for seed in (1, 2))]
    of_distance = torch.randn(2 * max(LENGTHS), HEADS, dtype=torch.float64).requires_grad_()
    bias = of_distance[_apart(max(LENGTHS)) + max(LENGTHS)].permute(2, 0, 1)[None] if has_bias else None
    rule = _Rule(is_causal, window, None, 0.0, bias)
    ours = _by_size(*given, LENGTHS, sources, rule)
    plain = _one_by_one(*given, LENGTHS, sources, rule)
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(plain)
    of = [*given, *([of_distance] if has_bias else [])]
    gradients = [torch.autograd.grad((told * weights).sum(), of, retain_graph=True) for told in (ours, plain)]
    for our, their in zip(*gradients, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("is_causal", [True, False])
def test_in_bf16_blocks_short_and_long_give_the_same_but_for_rounding(is_causal: bool, has_bias: bool) -> None:
    exact = [_tokens(sum(LENGTHS), heads, seed) for seed, heads in enumerate((HEADS, KEY_HEADS, KEY_HEADS))]
    half = [x.detach().bfloat16().requires_grad_() for x in exact]
    bias = torch.randn(1, HEADS, max(LENGTHS), max(LENGTHS)).bfloat16() if has_bias else None
    rule = _Rule(is_causal, None, None, 0.0, bias)
    ours = _by_size(*half, LENGTHS, LENGTHS, rule)
    plain = _one_by_one(*exact, LENGTHS, LENGTHS, rule._replace(bias=None if bias is None else bias.double()))
    assert ours.dtype == torch.bfloat16
    weights = torch.randn_like(plain)
    ours_of = torch.autograd.grad((ours.double() * weights).sum(), half)
    plain_of = torch.autograd.grad((plain * weights).sum(), exact)
    for our, their in [(ours, plain), *zip(ours_of, plain_of, strict=True)]:
        assert (our.double() - their).norm() < 0.01 * their.norm()


@given(st.lists(st.integers(1, 300), min_size=1, max_size=12))
def test_every_token_has_one_place_and_padding_is_behind_its_document(lengths: list[int]) -> None:
    laid = side_by_side(tuple(lengths), tuple(lengths), torch.device("cpu"))
    tokens = torch.arange(sum(lengths))[:, None, None].float()
    places = laid.queries.spread(tokens)
    assert torch.equal(laid.queries.collect(places), tokens)
    assert len(places) == sum(block.count * block.size for block in laid.blocks)
    assert sum(block.count for block in laid.blocks) == len(lengths)
    first = 0
    for block in laid.blocks:
        for row in places[first : first + block.count * block.size].flatten().view(block.count, block.size):
            document = row.unique()
            assert torch.equal(row, torch.cat([document, document[-1:].expand(block.size - len(document))]))
            assert torch.equal(document, torch.arange(document[0], document[-1] + 1))
        first += block.count * block.size
    assert len(laid.blocks) <= 8 * 2 + sum(length > 256 for length in lengths)


@pytest.mark.parametrize("is_causal", [True, False])
def test_what_stands_beside_a_document_does_not_move_a_bit_of_it(is_causal: bool) -> None:
    rule = _Rule(is_causal, None, None, 0.0, None)
    query, key, value = (_tokens(120, HEADS, seed).detach().float() for seed in range(3))
    alone = _by_size(query[:21], key[:21], value[:21], (21,), (21,), rule)
    for others in ((99,), (21, 21, 57), (1, 32, 66)):
        beside = _by_size(query, key, value, (21, *others), (21, *others), rule)
        assert torch.equal(alone, beside[:21])
