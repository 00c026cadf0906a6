"""`Ledger`: where the seconds of a run went, each counted once."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, get_args

__all__ = ["CATEGORIES", "Category", "Ledger"]

Category = Literal["start_up", "compute", "data_wait", "checkpoint", "validation", "restart", "idle"]
CATEGORIES: tuple[Category, ...] = get_args(Category)


class Ledger:
    """Wall-clock seconds by category, on so many devices that are held meanwhile; one ledger a thread.

    Measures may be nested: the inner one's seconds are its own and are not counted in the outer one again, so that the
    categories add up to the time that passed. A part is a breakdown of `start_up`, not an extra.
    """

    def __init__(
        self,
        num_devices: int,
        device: str,
        *,
        peak_flops_per_s: float | None = None,
        price_per_device_hour: float | None = None,
    ) -> None:
        """`peak_flops_per_s` is of one device; without it there is no MFU, and without a price no money."""
        self.num_devices = num_devices
        self.device = device
        self.peak_flops_per_s = peak_flops_per_s
        self.price_per_device_hour = price_per_device_hour
        self.flops: float | None = None
        self.tokens: int | None = None
        self.energy_j: float | None = None
        self._seconds: dict[str, float] = dict.fromkeys(CATEGORIES, 0.0)
        self._device_seconds: dict[str, float] = dict.fromkeys(CATEGORIES, 0.0)
        self._parts: dict[str, float] = {}
        self._inner_s: list[float] = []
        self._before_s = 0.0

    @contextmanager
    def measure(self, category: Category, part: str | None = None) -> Iterator[None]:
        """Count the block's time, also when it raises, less what measures inside it count."""
        started = time.perf_counter()
        self._inner_s.append(0.0)
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            self.add(category, elapsed - self._inner_s.pop(), part)
            if self._inner_s:
                self._inner_s[-1] += elapsed

    def add(self, category: Category, seconds: float, part: str | None = None) -> None:
        """Count seconds that were measured elsewhere. Raises ValueError for an unknown category or a misplaced part."""
        if category not in CATEGORIES:
            raise ValueError(f"category={category!r} is none of {', '.join(CATEGORIES)}")
        if part is not None and category != "start_up":
            raise ValueError(f"part={part!r} of {category!r}: only start_up has parts")
        self._seconds[category] += seconds
        self._device_seconds[category] += seconds * self.num_devices
        if part is not None:
            self._parts[part] = self._parts.get(part, 0.0) + seconds

    def add_before(self, seconds: float, part: str) -> None:
        """Count as start-up what passed before the clock began that `fill_idle` is told of."""
        self.add("start_up", seconds, part)
        self._before_s += seconds

    def hold(self, num_devices: int, device: str) -> None:
        """What is counted here is of these devices, what was counted before they were known included."""
        self.num_devices, self.device = num_devices, device
        self._device_seconds = {category: seconds * num_devices for category, seconds in self._seconds.items()}

    def count(self, *, flops: float | None = None, tokens: int | None = None, energy_j: float | None = None) -> None:
        """Add model FLOPs and energy (joules), both of all devices together, and tokens trained on."""
        if flops is not None:
            self.flops = (self.flops or 0.0) + flops
        if tokens is not None:
            self.tokens = (self.tokens or 0) + tokens
        if energy_j is not None:
            self.energy_j = (self.energy_j or 0.0) + energy_j

    def fill_idle(self, wall_s: float) -> None:
        """Count as idle what no category claims of the `wall_s` seconds for which the devices were held."""
        self.add("idle", max(0.0, wall_s + self._before_s - sum(self._seconds.values())))

    def merge(self, other: Mapping[str, Any]) -> None:
        """Add another ledger's `to_json()`: of one that spoke for seconds that this one did not measure."""
        for category in CATEGORIES:
            self._seconds[category] += other["seconds"][category]
            self._device_seconds[category] += other["device_seconds"][category]
        for part, seconds in other["start_up_parts"].items():
            self._parts[part] = self._parts.get(part, 0.0) + seconds
        self.count(flops=other["flops"], tokens=other["tokens"], energy_j=other.get("energy_j"))

    def to_json(self) -> dict[str, Any]:
        """The ledger as `cost.json` has it.

        `flops_per_s` is over the seconds of `compute` and `data_wait`: training as it ran, waiting for data included;
        `mfu` is its share of the peak of all devices; `money` is the price of all device seconds.
        """
        training_s = self._seconds["compute"] + self._seconds["data_wait"]
        flops_per_s = self.flops / training_s if self.flops is not None and training_s > 0 else None
        peak, price = self.peak_flops_per_s, self.price_per_device_hour
        device_hours = sum(self._device_seconds.values()) / 3600
        return {
            "devices": self.num_devices,
            "device": self.device,
            "seconds": dict(self._seconds),
            "device_seconds": dict(self._device_seconds),
            "start_up_parts": dict(self._parts),
            "flops": self.flops,
            "tokens": self.tokens,
            "flops_per_s": flops_per_s,
            "mfu": flops_per_s / (peak * self.num_devices) if flops_per_s is not None and peak is not None else None,
            "money": device_hours * price if price is not None else None,
            "energy_j": self.energy_j,
        }
