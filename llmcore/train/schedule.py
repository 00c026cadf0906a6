"""Learning rate as a pure function of the step: nothing to save, nothing to restore."""

import math

from llmcore.config.train import ScheduleSettings

__all__ = ["learning_rate_factor"]


def learning_rate_factor(settings: ScheduleSettings, step: int, num_steps: int) -> float:
    """Share of the peak learning rate at a step, 0-based, of a run of `num_steps`."""
    num_warmup = round(settings.warmup_fraction * num_steps)
    if step < num_warmup:
        return (step + 1) / num_warmup
    if settings.kind == "constant":
        return 1.0
    done = (step - num_warmup) / max(1, num_steps - num_warmup)
    shape = 1 - done if settings.kind == "linear" else (1 + math.cos(math.pi * done)) / 2
    return settings.final_fraction + (1 - settings.final_fraction) * shape
