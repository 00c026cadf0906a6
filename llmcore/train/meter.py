"""How fast a run is, and what its time goes to: columns of the logged rows."""

import time

from llmcore.cost import Category, Ledger

__all__ = ["Meter"]

_SHARES: dict[str, Category] = {
    "compute_fraction": "compute",
    "data_wait_fraction": "data_wait",
    "checkpoint_fraction": "checkpoint",
    "validation_fraction": "validation",
}


class Meter:
    """Reads a ledger from row to row. What comes after a row, a validation say, is told of in the next one."""

    def __init__(self, ledger: Ledger, flops_per_token: float, tokens_seen: int) -> None:
        self._ledger, self.flops_per_token = ledger, flops_per_token
        self._started = self._read_at = time.perf_counter()
        self._tokens, self._seconds = tokens_seen, self._spent()

    def _spent(self) -> dict[str, float]:
        seconds: dict[str, float] = self._ledger.to_json()["seconds"]
        return seconds

    def read(self, tokens_seen: int) -> dict[str, float]:
        """Since the last reading: tokens and model FLOPs a second, MFU where the peak is known, shares of the time.

        FLOPs and MFU are of all devices together; recomputed activations do not count.
        """
        now, seconds = time.perf_counter(), self._spent()
        window_s, num_tokens = now - self._read_at, tokens_seen - self._tokens
        row = {
            "tokens_per_s": num_tokens / window_s,
            "model_flops_per_s": num_tokens * self.flops_per_token / window_s,
            **{name: (seconds[of] - self._seconds[of]) / window_s for name, of in _SHARES.items()},
            "elapsed_s": now - self._started,
        }
        if self._ledger.peak_flops_per_s is not None:
            peak = self._ledger.peak_flops_per_s * self._ledger.num_devices
            row["mfu"] = row["model_flops_per_s"] / peak
        self._read_at, self._tokens, self._seconds = now, tokens_seen, seconds
        return row
