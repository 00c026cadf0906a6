"""What a device can do and hold, by its maker's data sheet."""

from typing import NamedTuple

__all__ = ["peak_flops_per_s"]


class _Device(NamedTuple):
    """Dense (not sparse) peaks in TFLOP/s: bf16 in the matrix units (None: it has none), fp32 outside of them."""

    name: str
    bf16: float | None
    fp32: float


# By words of the device's name. The first that matches counts, so special names stand before general ones.
_DEVICES = (
    _Device("GB200", 2500.0, 80.0),
    _Device("B200", 2250.0, 75.0),
    _Device("H200", 989.4, 66.9),
    _Device("GH200", 989.4, 66.9),
    _Device("H100 PCIe", 756.0, 51.0),
    _Device("H100 NVL", 835.0, 60.0),
    _Device("H100", 989.4, 66.9),
    _Device("A100", 312.0, 19.5),
    _Device("L40S", 362.0, 91.6),
    _Device("L4", 121.0, 30.3),
    _Device("A10G", 70.0, 35.0),
    _Device("A10", 125.0, 31.2),
    _Device("RTX 4090", 165.2, 82.6),
    _Device("RTX 3090", 71.0, 35.6),
    _Device("V100", None, 15.7),
    _Device("T4", None, 8.1),
    _Device("MI300X", 1307.4, 163.4),
    _Device("MI250X", 383.0, 47.9),
)
_FP16 = {"V100": 125.0, "T4": 65.0}
"""Of those without bf16; with it, a device does as many FLOPs in either."""


def peak_flops_per_s(device: str, precision: str) -> float | None:
    """The peak FLOP/s of one device by its name (as `torch.cuda.get_device_name` says it) and `bf16`, `fp16` or `fp32`.

    None where it is not known, as for every CPU: utilization is left out then, never guessed.
    """
    words = f" {device.replace('-', ' ').lower()} "
    for name, bf16, fp32 in _DEVICES:
        if f" {name.lower()} " in words:
            tera = {"bf16": bf16, "fp16": _FP16.get(name, bf16), "fp32": fp32}.get(precision)
            return None if tera is None else tera * 1e12
    return None
