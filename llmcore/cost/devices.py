"""What devices can do and hold, by their makers' data sheets."""

from typing import Literal, NamedTuple, get_args

from llmcore.errors import ConfigError

__all__ = ["DEVICES", "Device", "Precision", "device_named", "peak_flops_per_s"]

Precision = Literal["fp32", "bf16", "fp16"]


class Device(NamedTuple):
    """A kind of GPU.

    Attributes:
        name: Words of the name that its driver tells.
        memory_gib: Of the kind that has most of it.
        bf16: Dense (not sparse) peak of the matrix units in TFLOP/s; None: it has no bf16.
        fp32: The same of fp32 outside of them.
        fp16: Of those without bf16; with it, a device does as many FLOPs in either.
    """

    name: str
    memory_gib: int
    bf16: float | None
    fp32: float
    fp16: float | None = None

    def peak_flops_per_s(self, precision: str) -> float | None:
        """Peak FLOP/s in a precision; None where it has none."""
        of_precision = {"bf16": self.bf16, "fp16": self.fp16 or self.bf16, "fp32": self.fp32}
        tera = of_precision[precision] if precision in get_args(Precision) else None
        return None if tera is None else tera * 1e12


# The first that matches counts, so special names stand before general ones.
DEVICES = (
    Device("GB200", 186, 2500.0, 80.0),
    Device("B200", 180, 2250.0, 75.0),
    Device("H200", 141, 989.4, 66.9),
    Device("GH200", 96, 989.4, 66.9),
    Device("H100 PCIe", 80, 756.0, 51.0),
    Device("H100 NVL", 94, 835.0, 60.0),
    Device("H100", 80, 989.4, 66.9),
    Device("A100 40GB", 40, 312.0, 19.5),
    Device("A100", 80, 312.0, 19.5),
    Device("L40S", 48, 362.0, 91.6),
    Device("L4", 24, 121.0, 30.3),
    Device("A10G", 24, 70.0, 35.0),
    Device("A10", 24, 125.0, 31.2),
    Device("RTX 4090", 24, 165.2, 82.6),
    Device("RTX 3090", 24, 71.0, 35.6),
    Device("V100", 32, None, 15.7, fp16=125.0),
    Device("T4", 16, None, 8.1, fp16=65.0),
    Device("MI300X", 192, 1307.4, 163.4),
    Device("MI250X", 128, 383.0, 47.9),
)


def _find(name: str) -> Device | None:
    words = f" {name.replace('-', ' ').lower()} "
    return next((device for device in DEVICES if f" {device.name.lower()} " in words), None)


def device_named(name: str) -> Device:
    """A device by a name that a person gives it, `H100` or `a100-40gb`. Raises ConfigError where it is not known."""
    device = _find(name)
    if device is None:
        raise ConfigError(f"device={name!r} is not known; expected one of {', '.join(one.name for one in DEVICES)}")
    return device


def peak_flops_per_s(device: str, precision: str) -> float | None:
    """The peak FLOP/s of one device by its name (as `torch.cuda.get_device_name` says it) and `bf16`, `fp16` or `fp32`.

    None where it is not known, as for every CPU: utilization is left out then, never guessed.
    """
    found = _find(device)
    return None if found is None else found.peak_flops_per_s(precision)
