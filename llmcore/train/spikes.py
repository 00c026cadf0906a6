"""Which steps are spikes: decided from losses over the global batch, so alike on all ranks."""

import math
from collections.abc import Callable
from statistics import median

from llmcore.config.spikes import SpikeSettings
from llmcore.errors import DivergedError
from llmcore.train.progress import Progress

__all__ = ["check_spikes", "spike_judge"]

Judge = Callable[[float], bool]


def spike_judge(settings: SpikeSettings | None, progress: Progress) -> Judge | None:
    """Says of the next step's loss whether it is a spike; None where spikes are not looked for."""
    if settings is None:
        return None
    recent = progress.recent_losses
    limit = settings.factor * median(recent) if len(recent) == settings.window else math.inf
    return lambda loss: not math.isfinite(loss) or loss > limit


def check_spikes(settings: SpikeSettings, progress: Progress) -> None:
    """Raises DivergedError after more spikes in a row than are borne."""
    if progress.spikes_in_a_row > settings.max_in_a_row:
        raise DivergedError(
            f"step {progress.step}: {progress.spikes_in_a_row} spikes in a row, more than "
            f"train.spikes.max_in_a_row={settings.max_in_a_row}; the weights are those before them. Lower "
            "train.optimizer.learning_rate, or look at the rows of these steps"
        )
