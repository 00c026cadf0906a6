"""The one list of metrics: what jobs set, what the dashboard shows and what alerts ask for. Needs no Ray."""

from dataclasses import dataclass

__all__ = ["LABELS", "METRICS", "Metric", "exported"]

LABELS = ("run", "attempt", "kind", "trial")
"""Of every metric: the run's name (that of a pipeline's stage is `<pipeline>.<stage>`), the number of its attempt, the
job (pretrain, finetune, tune, evaluate), and of a search's training the trial; empty elsewhere."""
_PREFIX = "ray_"
"""What Ray's agent puts before each name."""


@dataclass(frozen=True)
class Metric:
    """A gauge: its last value stands as long as the process lives that has set it.

    Attributes:
        name: As jobs set it, its unit last.
        help: What it is.
        label: One that it has besides `LABELS`.
    """

    name: str
    help: str
    label: str | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """All its labels."""
        return LABELS if self.label is None else (*LABELS, self.label)


def exported(name: str) -> str:
    """The name of a metric as Prometheus has it. Raises KeyError for one that is not in the list."""
    return _PREFIX + METRICS[name].name


METRICS = {
    metric.name: metric
    for metric in (
        Metric("llmcore_step", "The last step that was logged."),
        Metric(
            "llmcore_progress_timestamp_seconds",
            "When a step was last logged, or the workers started: Unix time, so that its age grows when nothing more "
            "is told.",
        ),
        Metric("llmcore_tokens_per_second", "Tokens that all workers trained on, since the row before."),
        Metric("llmcore_loss", "Training loss at the last logged step."),
        Metric("llmcore_validation_loss", "Validation loss, or what stands for it in a fine-tuning."),
        Metric("llmcore_mfu", "Model FLOPs a second, as a share of all devices' peak; where the peak is known."),
        Metric("llmcore_data_wait_fraction", "Share of the time since the row before that was waited for data."),
        Metric(
            "llmcore_checkpoint_timestamp_seconds",
            "When the newest checkpoint was complete, or the run launched: Unix time.",
        ),
        Metric("llmcore_checkpoint_duration_seconds", "From the begin of the newest checkpoint until it was complete."),
        Metric("llmcore_restarts", "How often the workers of this attempt failed and started anew."),
        Metric("llmcore_trials", "Trials of a search, by how they stand.", label="state"),
        Metric("llmcore_evaluations_pending", "Models that have landed and are not judged yet."),
        Metric("llmcore_money_spent", "Of a run, over all its attempts, in the currency of its price."),
        Metric("llmcore_budget_fraction", "Share of a budget's bound that is spent; 1: it ends.", label="bound"),
    )
}
"""By name."""
