"""Which way attention goes, and that the GPU's kernel gives what the other way gives."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from llmcore.models import attention
from llmcore.models.attention import _at_once, _by_size, _has_kernel, _Rule, _starts
from llmcore.models.dropout import drawn_to_keep

LENGTHS = (7, 7, 1, 30, 19)
PLAIN = _Rule(is_causal=True, window=None, scale=None, dropout=0.0, bias=None)
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="FlashAttention's kernel needs a GPU")


def _tokens(heads: int, seed: int) -> Tensor:
    return torch.randn(sum(LENGTHS), heads, 32, generator=torch.Generator().manual_seed(seed))


def test_documents_start_where_the_ones_before_end() -> None:
    starts = _starts(LENGTHS, torch.device("cpu"))
    assert starts.tolist() == [0, 7, 14, 15, 45, 64]
    assert starts.dtype == torch.int32


def test_the_kernel_is_for_half_precision_on_gpus() -> None:
    assert not _has_kernel(_tokens(4, 0).bfloat16(), PLAIN)


@on_gpu
@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("key_heads", [4, 2])
def test_the_kernel_gives_what_blocks_of_documents_give(is_causal: bool, window: int | None, key_heads: int) -> None:
    rule = PLAIN._replace(is_causal=is_causal, window=window)
    query, key, value = (_tokens(heads, seed).cuda().bfloat16() for seed, heads in enumerate((4, key_heads, key_heads)))
    assert _has_kernel(query, rule)
    expected = _by_size(query.float(), key.float(), value.float(), LENGTHS, LENGTHS, rule)
    assert torch.allclose(_at_once(query, key, value, LENGTHS, LENGTHS, rule).float(), expected, atol=2e-2)


@on_gpu
def test_the_kernel_leaves_other_documents_alone() -> None:
    query, key, value = (_tokens(4, seed).cuda().bfloat16() for seed in range(3))
    before = _at_once(query, key, value, LENGTHS, LENGTHS, PLAIN)
    value[:7] += 1
    after = _at_once(query, key, value, LENGTHS, LENGTHS, PLAIN)
    assert not torch.equal(before[:7], after[:7])
    assert torch.equal(before[7:], after[7:])


def _weights(query: Tensor, key: Tensor, rule: _Rule) -> Tensor:
    """The weights of each token: values that are one-hot by place, no document being longer than they are wide."""
    places = torch.cat([torch.arange(length) for length in LENGTHS])
    value = functional.one_hot(places, 32).to(query.dtype)[:, None].expand(-1, key.shape[1], -1)
    return _by_size(query, key, value, LENGTHS, LENGTHS, rule)


@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("key_heads", [4, 2])
@pytest.mark.parametrize("bias", [None, 4])
def test_dropout_leaves_weights_or_takes_them(
    is_causal: bool, window: int | None, key_heads: int, bias: int | None
) -> None:
    rule = _Rule(is_causal, window, 0.3, 0.0, None if bias is None else torch.randn(1, bias, 64, 64))
    query, key = _tokens(4, 0), _tokens(key_heads, 1)
    torch.manual_seed(3)
    plain, told = _weights(query, key, rule), _weights(query, key, rule._replace(dropout=0.25))
    left = told != 0
    assert torch.allclose(told, torch.where(left, plain / 0.75, 0.0), atol=1e-6)
    seen = plain > 1e-6
    assert 1 - left[seen].float().mean().item() == pytest.approx(0.25, abs=5 * (0.1875 / seen.sum().item()) ** 0.5)


def _masks(kind: str, size: int, keys: int) -> Tensor | None:
    generator = torch.Generator().manual_seed(9)
    if kind == "known":
        return torch.arange(keys)[None, None, None, :] < torch.tensor([keys, keys - 3])[:, None, None, None]
    return torch.randn(1, 4, size, keys, generator=generator) * 3 if kind == "bias" else None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["causal", "none", "known", "bias"])
@pytest.mark.parametrize(("size", "keys", "key_heads"), [(32, 32, 4), (300, 300, 2), (20, 50, 4)])
def test_dropout_s_both_passes_are_those_of_what_is_left(
    size: int, keys: int, key_heads: int, kind: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(5)
    shapes = [(2, 4, size, 16), (2, key_heads, keys, 16), (2, key_heads, keys, 16), (2, 4, size, 16)]
    query, key, value, gradient = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    masks: list[Tensor] = []

    def drawn(given: Tensor, chance: float) -> tuple[Tensor, float]:
        kept, scale = drawn_to_keep(given, chance)
        masks.append(kept.bool())
        return kept, scale

    monkeypatch.setattr(attention, "drawn_to_keep", drawn)
    rule, mask = PLAIN._replace(is_causal=kind == "causal", dropout=0.25, scale=0.4), _masks(kind, size, keys)
    sides = [side.requires_grad_() for side in (query, key, value)]
    told = attention._dropped_attention(*sides, mask, rule)
    assert told.dtype == dtype
    torch.autograd.backward(told, gradient)

    exact = [side.detach().double().requires_grad_() for side in sides]
    q, k, v = exact[0], *(side.repeat_interleave(4 // key_heads, dim=1) for side in exact[1:])
    given = None if mask is None else torch.where(mask, 0.0, -torch.inf) if kind == "known" else mask
    due, _ = torch.ops.aten._scaled_dot_product_attention_math(
        q, k, v, None if given is None else given.double(), 0.25, kind == "causal", masks[0], scale=0.4
    )
    torch.autograd.backward(due, gradient.double())
    pairs = [(told, due), *((ours.grad, theirs.grad) for ours, theirs in zip(sides, exact, strict=True))]
    for ours, theirs in pairs:
        assert ours is not None and theirs is not None
        error = (ours.double() - theirs).norm() / theirs.norm()
        assert error < (1e-6 if dtype == torch.float32 else 1e-2)
