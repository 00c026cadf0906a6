"""FLOPs: the formula against what the operators do, and peaks that are known or null."""

import pytest

from llmcore.cost import forward_flops_per_token, peak_flops_per_s, training_flops_per_token


@pytest.mark.parametrize(("num_layers", "hidden_size", "context", "vocab_size"), [(2, 32, 16, 50), (3, 64, 40, 101)])
def test_the_formula_counts_what_pytorch_counts(
    num_layers: int, hidden_size: int, context: int, vocab_size: int
) -> None:
    """Against torch's own counter of operators, on a GPT-2 of transformers, forward and backward."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from torch.utils.flop_counter import FlopCounterMode

    config = transformers.GPT2Config(
        n_layer=num_layers, n_embd=hidden_size, n_head=2, n_positions=context, vocab_size=vocab_size
    )
    config._attn_implementation = "eager"
    model = transformers.GPT2LMHeadModel(config)
    tokens = torch.randint(0, vocab_size, (3, context))
    with FlopCounterMode(display=False) as forward:
        logits = model(tokens).logits
    with FlopCounterMode(display=False) as backward:
        logits.sum().backward()
    matrices = [weight.numel() for name, weight in model.named_parameters() if weight.ndim == 2 and ".wpe" not in name]
    sizes = {
        "num_matmul_parameters": sum(matrices),  # wte stands for the head that is tied to it
        "num_layers": num_layers,
        "hidden_size": hidden_size,
        "attended_tokens": float(context),
    }
    assert forward.get_total_flops() == tokens.numel() * forward_flops_per_token(**sizes)
    total = forward.get_total_flops() + backward.get_total_flops()
    assert total == tokens.numel() * training_flops_per_token(**sizes)

    frozen = [layer.mlp.c_fc.weight.requires_grad_(False) for layer in model.transformer.h]
    logits = model(tokens).logits
    with FlopCounterMode(display=False) as backward:
        logits.sum().backward()
    total = forward.get_total_flops() + backward.get_total_flops()
    num_frozen = sum(weight.numel() for weight in frozen)
    assert total == tokens.numel() * training_flops_per_token(**sizes, num_frozen=num_frozen)


def test_palm_s_own_figures() -> None:
    """540 B parameters, 118 layers, 48 heads of 256, context 2,048: 6 N + 12 L H Q T."""
    flops = training_flops_per_token(
        num_matmul_parameters=540_000_000_000, num_layers=118, hidden_size=48 * 256, attended_tokens=2048
    )
    assert flops == 6 * 540e9 + 12 * 118 * 48 * 256 * 2048


@pytest.mark.parametrize(
    ("device", "precision", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989.4e12),
        ("NVIDIA H100 PCIe", "bf16", 756e12),
        ("NVIDIA H200", "fp32", 66.9e12),
        ("NVIDIA A100-SXM4-80GB", "bf16", 312e12),
        ("NVIDIA A10G", "bf16", 70e12),
        ("NVIDIA A10", "bf16", 125e12),
        ("Tesla V100-SXM2-16GB", "fp32", 15.7e12),
        ("Tesla V100-SXM2-16GB", "bf16", None),
        ("Tesla T4", "bf16", None),
        ("Tesla T4", "fp16", 65e12),
        ("Tesla V100-SXM2-16GB", "fp16", 125e12),
        ("NVIDIA L4", "fp16", 121e12),
        ("cpu", "fp32", None),
        ("NVIDIA H100 80GB HBM3", "fp8", None),
        ("Some GPU A1000", "bf16", None),
    ],
)
def test_a_peak_is_known_or_null(device: str, precision: str, peak: float | None) -> None:
    assert peak_flops_per_s(device, precision) == (None if peak is None else pytest.approx(peak))
