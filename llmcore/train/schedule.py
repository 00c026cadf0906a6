"""Learning rate as a pure function of the step: nothing to save, nothing to restore."""

import math

from llmcore.config.optimizer import ScheduleSettings

__all__ = ["learning_rate_factor"]


def learning_rate_factor(settings: ScheduleSettings, step: int, num_steps: int) -> float:
    """Share of the peak learning rate at a step, 0-based, of a run of `num_steps`.

    `stable_decay` decays by the square root of what is done, which did best in Hägele et al., 2024, "Scaling Laws and
    Compute-Optimal Training Beyond Fixed Training Durations", section 3.
    """
    share = round(settings.warmup_fraction * num_steps)
    num_warmup = share if settings.warmup_steps is None else settings.warmup_steps
    if step < num_warmup:
        return (step + 1) / num_warmup
    if settings.kind == "constant":
        return 1.0
    if settings.kind == "stable_decay":
        num_decay = max(1, round(settings.decay_fraction * num_steps))
        decayed = max(0.0, (step - max(num_warmup, num_steps - num_decay)) / num_decay)
        return settings.final_fraction + (1 - settings.final_fraction) * (1 - math.sqrt(decayed))
    done = (step - num_warmup) / max(1, num_steps - num_warmup)
    shape = 1 - done if settings.kind == "linear" else (1 + math.cos(math.pi * done)) / 2
    return settings.final_fraction + (1 - settings.final_fraction) * shape
