"""Attention inside the documents of packed rows, exact and without a mask over the row.

On CPU all documents of about one size are one call of PyTorch's scaled dot product attention: 2.4 times faster than a
boolean mask over the row. On a GPU with half precision all documents are one call of FlashAttention's kernel for
variable lengths (Dao, 2023, "FlashAttention-2"). Everything but attention needs no padding where documents are laid end
to end.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from llmcore.models.dropout import drawn_to_keep
from llmcore.models.side_by_side import Block, block_size, side_by_side

__all__ = ["ATTENTION", "HALF", "Lengths", "bound_position_bias"]

ATTENTION = "llmcore_documents"
"""Name under which transformers finds this attention."""
_AMPERE = (8, 0)
_WIDEST_HEAD = 256
_SLOW_UP_TO = 256
HALF = (torch.bfloat16, torch.float16)


class Lengths:
    """Tokens of each piece, for compiled code to pass on unseen: it would be compiled anew for each tuple of them."""

    def __init__(self, values: Sequence[int]) -> None:
        self.values = values


def _documents_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    *,
    sliding_window: int | None = None,
    position_bias: Tensor | None = None,
    document_lengths: Lengths,
    source_lengths: Lengths | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of transformers' interface: query [rows, heads, length, dim] to [rows, length, heads, dim].

    A decoder is given `source_lengths`, too: the lengths of the encoder's documents. Its attention that is not causal
    is the one that reads them.
    """
    rows, heads, length, dim = query.shape
    is_causal = bool(getattr(module, "is_causal", True))
    key_lengths = document_lengths
    if source_lengths is not None and not is_causal:
        # What crosses has no distances.
        key_lengths, position_bias = source_lengths, None
    # [rows * length, heads, dim]: documents are contiguous spans of the flattened rows.
    query, key, value = (x.transpose(1, 2).flatten(0, 1) for x in (query, key, value))
    rule = _Rule(is_causal, sliding_window, scaling, dropout, position_bias)
    attend = _at_once if _has_kernel(query, rule) else _by_size
    attended = attend(query, key, value, document_lengths.values, key_lengths.values, rule)
    return attended.view(rows, length, heads, dim), None


def bound_position_bias(model: nn.Module) -> None:
    """Has a T5 make its bias for the longest document, not for the row: all of what a document sees is in it.

    A row's own would be quadratic in the row, and so would be each block's share of its gradient.
    """
    for module in model.modules():
        if hasattr(module, "has_relative_attention_bias"):
            module.register_forward_pre_hook(_with_bias, with_kwargs=True)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # it would be compiled anew for each length
def _with_bias(module: Any, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[Any, ...] | None:
    """What an attention of T5 is called with on packed rows; a stack's first hands its bias on to the others."""
    lengths, bias = given.get("document_lengths"), given.get("position_bias")
    if lengths is None or bias is not None:
        return None
    if module.has_relative_attention_bias:
        longest = block_size(max(lengths.values))
        bias = module.compute_bias(longest, longest)
    else:  # What crosses has no distances.
        bias = torch.zeros((), device=module.q.weight.device)
    return args, given | {"position_bias": bias}


class _Rule(NamedTuple):
    """Which tokens of a document see which, and how: see `_mask`."""

    is_causal: bool
    window: int | None
    scale: float | None
    dropout: float
    bias: Tensor | None


def _by_size(
    query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], key_lengths: Sequence[int], rule: _Rule
) -> Tensor:
    """Of tokens [tokens, heads, dim]: one call for all documents of about one size."""
    laid = side_by_side(tuple(lengths), tuple(key_lengths), query.device)
    query, key, value = laid.queries.spread(query), laid.keys.spread(key), laid.keys.spread(value)
    heads, dim = query.shape[1:]
    outputs = []
    spans = [block.size * block.count for block in laid.blocks]
    key_spans = [block.key_size * block.count for block in laid.blocks]
    # Not slices: the gradient of each would be as long as the row.
    pieces = zip(torch.split(query, spans), torch.split(key, key_spans), torch.split(value, key_spans), strict=True)
    for block, given in zip(laid.blocks, pieces, strict=True):
        queries, *others = (x.float() for x in given) if _is_slow(query, block, rule) else given
        q = queries.view(block.count, block.size, heads, dim).transpose(1, 2)
        k, v = (x.view(block.count, block.key_size, -1, dim).transpose(1, 2) for x in others)
        mask = _mask(block, rule, q)
        attended = _product_attention(q, k, v, mask, rule)
        outputs.append(attended.transpose(1, 2).reshape(-1, heads, dim).to(query.dtype))
    return laid.queries.collect(torch.cat(outputs))


def _product_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, rule: _Rule) -> Tensor:
    is_causal = rule.is_causal and mask is None
    if query.is_meta:  # laid out to be counted: PyTorch would take its kernel apart there
        given = None if mask is None else torch.empty(mask.shape, dtype=query.dtype, device="meta")
        attended, _ = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, is_causal, attn_mask=given, scale=rule.scale
        )
        return attended  # type: ignore[no-any-return]
    if _drops_by_hand(query, rule):
        return _dropped_attention(query, key, value, mask, rule)
    return functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=rule.dropout,
        scale=rule.scale,
        is_causal=is_causal,
        enable_gqa=key.shape[1] != query.shape[1],
    )


def _drops_by_hand(query: Tensor, rule: _Rule) -> bool:
    """Whether weights are dropped on a CPU: PyTorch has no kernel for it there, and draws each number by itself."""
    return rule.dropout > 0.0 and query.device.type == "cpu"


def _dropped_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, rule: _Rule) -> Tensor:
    """Attention with dropout, in its parts: query [documents, heads, size, dim] to the same shape.

    Scores and their softmax are in fp32, as in kernels.
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    if mask is None and rule.is_causal:
        mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
    if mask is not None and mask.dtype == torch.bool:  # to add is faster than to fill, where it is spread over heads
        mask = torch.zeros(mask.shape).masked_fill_(~mask, float("-inf"))
    scale = query.shape[-1] ** -0.5 if rule.scale is None else rule.scale
    scores = (query.float() * scale) @ key.float().transpose(-2, -1)
    weights = (scores if mask is None else scores + mask).softmax(dim=-1).to(value.dtype)
    kept, grown = drawn_to_keep(weights, rule.dropout)
    return ((weights * kept) @ value) * grown


def _is_slow(query: Tensor, block: Block, rule: _Rule) -> bool:
    """Whether PyTorch's kernel is faster in fp32: in half precision on a CPU its gradient of short documents is slow.

    Of 64, 96, 160 tokens the three passes take 2.6, 3.1, 1.4 times as long, of 512 as long (2.13, avx512_bf16).
    """
    if _drops_by_hand(query, rule):
        return False
    return query.device.type == "cpu" and query.dtype in HALF and max(block.size, block.key_size) <= _SLOW_UP_TO


def _has_kernel(query: Tensor, rule: _Rule) -> bool:
    """Whether FlashAttention's kernel for variable lengths takes it: half precision on an Ampere GPU or a later one."""
    if not query.is_cuda or query.dtype not in HALF:
        return False
    plain = rule.bias is None and rule.dropout == 0.0 and query.shape[-1] <= _WIDEST_HEAD
    return plain and torch.cuda.get_device_capability(query.device) >= _AMPERE


def _at_once(
    query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], key_lengths: Sequence[int], rule: _Rule
) -> Tensor:
    """Of tokens [tokens, heads, dim]: all documents in one call of the kernel."""
    from torch.nn.attention.varlen import varlen_attn

    reach = -1 if rule.window is None else rule.window - 1
    attended = varlen_attn(
        query,
        key,
        value,
        _starts(tuple(lengths), query.device),
        _starts(tuple(key_lengths), query.device),
        max(lengths),
        max(key_lengths),
        scale=rule.scale,
        window_size=(reach, 0 if rule.is_causal else reach),
        enable_gqa=key.shape[1] != query.shape[1],
    )
    assert isinstance(attended, Tensor)  # two only where the sums are asked for
    return attended


@lru_cache(maxsize=8)
def _starts(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """Where each document starts, and the last one ends: int32 [documents + 1]. All layers of a batch ask for it."""
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)


def _mask(block: Block, rule: _Rule, query: Tensor) -> Tensor | None:
    """What a kernel has to be told of a block of documents beyond `is_causal`; None where that is nothing.

    Bool, up to [documents, 1, size, keys], where there is padding, and for layers of local attention, where a token
    sees `window` - 1 tokens to a side; or, with T5's bias [1, heads, longest, longest], numbers to add. That depends on
    how far two tokens are apart, so the document may stand anywhere in the row.

    Padding stands behind its document: where attention is causal no token sees it. Padding itself sees every key, since
    the softmax of nothing would be no number, and poison the gradients.
    """
    _, window, _, _, bias = rule
    known = None if rule.is_causal else block.known
    if bias is None and (window is None or block.size <= window):
        return known
    places = torch.arange(block.size, device=query.device)
    distances = places[:, None] - places
    seen = distances >= 0 if rule.is_causal else torch.ones_like(distances, dtype=torch.bool)
    if window is not None:
        seen &= distances.abs() < window
    if known is not None:
        seen = (seen & known) | block.beyond
    if bias is None:
        return seen
    return torch.where(seen, bias[:, :, : block.size, : block.size].to(query.dtype), float("-inf"))


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _documents_attention)
