"""Where a run stands: what a checkpoint must say besides tensors."""

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmcore.train.engine import StepResult

__all__ = ["Progress"]


@dataclass(frozen=True)
class Progress:
    """The state of a loop. The order of data needs `step` alone: rows consumed are steps × the global batch.

    Attributes:
        step: Steps taken, the skipped ones included: their rows are consumed, and the schedule moves on.
        skipped_steps: Those of them that the weights show nothing of: spikes, overflows, and what was rolled back.
        rollbacks: How often weights and optimizer went back to a checkpoint.
        recent_losses: Of the last accepted steps, as many as spikes are judged by.
        spikes_in_a_row: Spikes since the last accepted step.
        best_metric: What chose the best export.
        gained_metric: The same metric, at the last validation that was a gain (`early_stopping`).
        validations_without_gain: Validations since then.
    """

    step: int = 0
    tokens_seen: int = 0
    skipped_steps: int = 0
    rollbacks: int = 0
    recent_losses: list[float] = field(default_factory=list)
    spikes_in_a_row: int = 0
    last_loss: float | None = None
    best_metric: float | None = None
    gained_metric: float | None = None
    validations_without_gain: int = 0
    best_export: str | None = None
    newest_export: str | None = None

    @property
    def num_updates(self) -> int:
        """Steps that the optimizer took, and that stand."""
        return self.step - self.skipped_steps

    def after_step(self, result: "StepResult", window: int = 0) -> "Progress":
        """One step later; of the losses of steps that were not skipped, the last `window` are kept."""
        later = replace(
            self,
            step=self.step + 1,
            tokens_seen=self.tokens_seen + result.num_tokens,
        )
        if result.skipped is not None:
            spikes = self.spikes_in_a_row + (result.skipped == "spike")
            return replace(later, skipped_steps=self.skipped_steps + 1, spikes_in_a_row=spikes)
        recent = [*self.recent_losses, result.loss][-window:] if window else []
        return replace(later, last_loss=result.loss, recent_losses=recent, spikes_in_a_row=0)

    def rolled_back_to(self, saved: "Progress") -> "Progress":
        """Weights and optimizer are a checkpoint's again; the rows since stay consumed."""
        return replace(
            self,
            skipped_steps=self.step - saved.num_updates,
            rollbacks=self.rollbacks + 1,
            recent_losses=saved.recent_losses,
            last_loss=saved.last_loss,
        )

    def exported(self, name: str, metric: float | None = None) -> "Progress":
        """A new export; with a metric, it is the best one so far."""
        if metric is None:
            return replace(self, newest_export=name)
        return replace(self, newest_export=name, best_export=name, best_metric=metric)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON; `Progress(**…)` reads it."""
        return asdict(self)
