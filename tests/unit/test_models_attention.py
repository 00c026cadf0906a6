"""Which way attention goes, and that the GPU's kernel gives what the other way gives."""

import pytest
import torch
from torch import Tensor

from llmcore.models.attention import _at_once, _by_size, _has_kernel, _Rule, _starts

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
