"""`dropout`: both passes on one thread of a CPU, where what a model drops is drawn four numbers at a time.

Layers' dropout is held against PyTorch's own; attention with dropout against PyTorch's scaled dot product attention.
"""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from jobs.benchmarks.rows import Measured, Row, in_turn, median_of
from jobs.runtime.options import RunOptions
from llmcore.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

    Pass = Callable[[], Tensor]

__all__ = ["measure"]

NUM_REPETITIONS = 9
PEER = "PyTorch"
CHANCE = 0.1
NUM_TOKENS, NUM_HEADS, HEAD_SIZE = 2048, 12, 32
LENGTHS = (32, 128, 256, 512)
"""Tokens of a document; of each length there are as many documents as make `NUM_TOKENS`."""
MARGIN = 0.01
"""By how much the mean of what is left may differ from the mean of what was given, which is one."""


def measure(options: RunOptions) -> Measured:
    """CPU-seconds of a layer, and of attention by length and precision.

    Raises:
        RunError: one of them did not keep the mean.
    """
    import torch

    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = [row for dtype in (torch.float32, torch.bfloat16) for row in _rows_in(dtype)]
    finally:
        torch.set_num_threads(threads)
    sizes = {"tokens": NUM_TOKENS, "heads": NUM_HEADS, "head_size": HEAD_SIZE, "chance": CHANCE}
    return Measured(rows, sizes | {"num_repetitions": NUM_REPETITIONS})


def _rows_in(dtype: Any) -> list[Row]:
    import torch
    from torch.nn import functional

    from llmcore.models.dropout import drop

    name = str(dtype).removeprefix("torch.")
    wide = torch.ones(NUM_TOKENS, 4 * NUM_HEADS * HEAD_SIZE, dtype=dtype, requires_grad=True)
    layer = _row(f"a layer's, {name}", lambda: drop(wide, CHANCE), lambda: functional.dropout(wide, CHANCE))
    return [layer, *(_row(f"attention's, {length} tokens, {name}", *_attentions(dtype, length)) for length in LENGTHS)]


def _attentions(dtype: Any, length: int) -> "tuple[Pass, Pass]":
    """Of documents of one length that are laid end to end, each seeing all of itself; values are ones."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    from llmcore.models.attention import ATTENTION, Lengths

    layer = SimpleNamespace(is_causal=False)
    query, key = (torch.randn(1, NUM_HEADS, NUM_TOKENS, HEAD_SIZE, dtype=dtype, requires_grad=True) for _ in range(2))
    value = torch.ones(query.shape, dtype=dtype, requires_grad=True)
    lengths = Lengths([length] * (NUM_TOKENS // length))

    def ours() -> "Tensor":
        attended: Tensor
        attended, _ = ALL_ATTENTION_FUNCTIONS[ATTENTION](
            layer, query, key, value, None, dropout=CHANCE, document_lengths=lengths
        )
        return attended

    def peer() -> "Tensor":
        q, k, v = (x.view(NUM_HEADS, -1, length, HEAD_SIZE).transpose(0, 1) for x in (query, key, value))
        return scaled_dot_product_attention(q, k, v, dropout_p=CHANCE)

    return ours, peer


def _row(name: str, ours: "Pass", peer: "Pass") -> Row:
    found = in_turn(
        {"ours": lambda _: _milliseconds(name, ours), PEER: lambda _: _milliseconds(name, peer)}, 1 + NUM_REPETITIONS
    )
    ours_ms, peer_ms = (median_of(taken[1:], float) for taken in found.values())
    return Row(name, ours_ms, "CPU ms", PEER, peer_ms)


def _milliseconds(name: str, forward: "Pass") -> float:
    import torch

    began = time.process_time()
    left = forward()
    torch.autograd.backward(left.sum())
    took = time.process_time() - began
    if abs(left.float().mean().item() - 1) > MARGIN:
        raise RunError(f"dropout: {name}: the mean of ones became {left.float().mean():.4f}")
    return 1e3 * took
