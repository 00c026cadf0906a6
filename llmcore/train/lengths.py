"""How long a run is. Needs no torch."""

from llmcore.config.train import TrainSettings

__all__ = ["last_step", "num_steps"]


def num_steps(settings: TrainSettings, num_rows: int) -> int:
    """Optimizer steps: as given, or as many as the epochs over the train rows need, rounded."""
    if settings.num_steps is not None:
        return settings.num_steps
    assert settings.num_epochs is not None
    return max(1, round(settings.num_epochs * num_rows / settings.global_batch_size))


def last_step(settings: TrainSettings, num_rows: int) -> int:
    """The step after which a run ends: that of its schedule, or an earlier one that it was told."""
    whole = num_steps(settings, num_rows)
    return whole if settings.stop_after is None else min(whole, settings.stop_after)
