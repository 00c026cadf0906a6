"""Floating-point operations that a transformer needs, and those that a device can do."""

__all__ = ["forward_flops_per_token", "peak_flops_per_s", "training_flops_per_token"]


def forward_flops_per_token(
    *, num_matmul_parameters: int, num_layers: int, hidden_size: int, attended_tokens: float
) -> float:
    """FLOPs of one token's way through a transformer: 2 N + 4 L d a.

    Each of the N parameters that multiply (all matrices and the output head, tied or not; no embedding look-ups, norms
    or biases) costs a multiplication and an addition. In each of L layers queries meet the keys of `attended_tokens`
    positions in d = heads x head size dimensions, and their weights meet the values: 2 d a each.

    `attended_tokens` is what is computed, also where a mask discards it afterwards (the convention of PaLM): the
    context length for full rows, and for attention inside documents the mean over tokens of their document's length,
    sum(length²) / sum(length).

    Source: Chowdhery et al. 2022 (PaLM, arXiv 2204.02311), appendix B; Kaplan et al. 2020 (arXiv 2001.08361), 2.1.
    """
    return 2.0 * num_matmul_parameters + 4.0 * num_layers * hidden_size * attended_tokens


def training_flops_per_token(
    *,
    num_matmul_parameters: int,
    num_layers: int,
    hidden_size: int,
    attended_tokens: float,
    num_frozen: int = 0,
) -> float:
    """FLOPs of one token in training: 6 N + 12 L d a, the backward pass being twice the forward pass.

    The `num_frozen` of the N that do not train need 4 and not 6: nothing but their inputs has a gradient. That is an
    upper bound where nothing before them trains, so that no gradient is needed there. Recomputed activations are not
    counted: this is what the model needs, so MFU, not hardware utilization.
    """
    forward = forward_flops_per_token(
        num_matmul_parameters=num_matmul_parameters,
        num_layers=num_layers,
        hidden_size=hidden_size,
        attended_tokens=attended_tokens,
    )
    return 3.0 * forward - 2.0 * num_frozen


# Dense (not sparse) peaks of the makers' data sheets in TFLOP/s: words of the device's name, bf16 in the matrix units
# (None: it has none), fp32 outside of them. The first that matches counts, so special names stand before general ones.
_PEAKS: tuple[tuple[str, float | None, float], ...] = (
    ("GB200", 2500.0, 80.0),
    ("B200", 2250.0, 75.0),
    ("H200", 989.4, 66.9),
    ("GH200", 989.4, 66.9),
    ("H100 PCIe", 756.0, 51.0),
    ("H100 NVL", 835.0, 60.0),
    ("H100", 989.4, 66.9),
    ("A100", 312.0, 19.5),
    ("L40S", 362.0, 91.6),
    ("L4", 121.0, 30.3),
    ("A10G", 70.0, 35.0),
    ("A10", 125.0, 31.2),
    ("RTX 4090", 165.2, 82.6),
    ("RTX 3090", 71.0, 35.6),
    ("V100", None, 15.7),
    ("T4", None, 8.1),
    ("MI300X", 1307.4, 163.4),
    ("MI250X", 383.0, 47.9),
)

_FP16 = {"V100": 125.0, "T4": 65.0}
"""Of those without bf16; with it, a device does as many FLOPs in either."""


def peak_flops_per_s(device: str, precision: str) -> float | None:
    """The peak FLOP/s of one device by its name (as `torch.cuda.get_device_name` says it) and `bf16`, `fp16` or `fp32`.

    None where it is not known, as for every CPU: utilization is left out then, never guessed.
    """
    words = f" {device.replace('-', ' ').lower()} "
    for name, bf16, fp32 in _PEAKS:
        if f" {name.lower()} " in words:
            tera = {"bf16": bf16, "fp16": _FP16.get(name, bf16), "fp32": fp32}.get(precision)
            return None if tera is None else tera * 1e12
    return None
