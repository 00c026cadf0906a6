"""The training loop: pre-training and fine-tuning, every objective, every ZeRO stage."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from llmcore.config.train import TrainSettings
from llmcore.cost import Ledger
from llmcore.train.early_stopping import stops_early
from llmcore.train.engine import Engine, StepResult
from llmcore.train.progress import Progress
from llmcore.train.spikes import spike_judge

__all__ = ["Hooks", "train"]


class Hooks(Protocol):
    """What the loop tells and asks of the run around it. Every rank calls each of them, the same number of times."""

    def stop(self) -> bool:
        """Whether this rank was asked to stop; a sign of life, too, since it is asked before each step."""

    def log(self, progress: Progress, result: StepResult) -> None:
        """A row of metrics."""

    def skipped(self, progress: Progress, result: StepResult) -> Progress:
        """The last step moved no weights; what may be done about it is done."""

    def validate(self, progress: Progress) -> dict[str, float]:
        """Metrics of the validation split."""

    def export(self, progress: Progress, metrics: dict[str, float]) -> Progress:
        """The weights as a model folder, where they are worth keeping."""

    def save(self, progress: Progress) -> None:
        """A checkpoint."""

    def report(self, progress: Progress, metrics: dict[str, float]) -> None:
        """Tells whoever decides about the run; what is told of has been exported and saved."""


def train(
    engine: Engine,
    batches: Iterator[Sequence[Any]],
    progress: Progress,
    settings: TrainSettings,
    hooks: Hooks,
    ledger: Ledger,
) -> Progress:
    """Steps from where `progress` stands to the last one; `batches` yields each step's micro batches.

    When a rank is asked to stop, or nothing more is gained, all save the step that they are in, and leave.
    """
    window = settings.spikes.window if settings.spikes else 0
    last_step = min(engine.num_steps, settings.stop_after or engine.num_steps)
    stopped = stops_early(progress, settings)
    while progress.step < last_step and not stopped:
        with ledger.measure("data_wait"):
            micro_batches = next(batches)
        with ledger.measure("compute"):
            judge = spike_judge(settings.spikes, progress)
            result = engine.step(progress.step, micro_batches, judge, stop=hooks.stop())
        progress, stopped = progress.after_step(result, window), result.stop
        if result.skipped:
            progress = hooks.skipped(progress, result)

        def due(every: int | None, step: int = progress.step) -> bool:
            return step == last_step or (every is not None and step % every == 0)

        if due(settings.log_every) or stopped:
            hooks.log(progress, result)
        metrics = None
        if due(settings.validate_every):
            with ledger.measure("validation"):
                metrics = hooks.validate(progress)
            with ledger.measure("checkpoint"):
                progress = hooks.export(progress, metrics)
            stopped = stopped or stops_early(progress, settings)
        if due(settings.checkpoint_every) or stopped:
            with ledger.measure("checkpoint"):
                hooks.save(progress)
        if metrics is not None:
            hooks.report(progress, metrics)
    return progress
