"""Where a run stands: what a checkpoint must say besides tensors."""

from dataclasses import asdict, dataclass, replace
from typing import Any

__all__ = ["Progress"]


@dataclass(frozen=True)
class Progress:
    """The state of a loop. The order of data needs `step` alone: rows consumed are steps × the global batch."""

    step: int = 0
    tokens_seen: int = 0
    last_loss: float | None = None
    best_metric: float | None = None
    best_export: str | None = None
    newest_export: str | None = None

    def after_step(self, loss: float, num_tokens: int) -> "Progress":
        """One optimizer step later."""
        return replace(self, step=self.step + 1, tokens_seen=self.tokens_seen + num_tokens, last_loss=loss)

    def exported(self, name: str, metric: float | None = None) -> "Progress":
        """A new export; with a metric, it is the best one so far."""
        if metric is None:
            return replace(self, newest_export=name)
        return replace(self, newest_export=name, best_export=name, best_metric=metric)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON; `Progress(**…)` reads it."""
        return asdict(self)
