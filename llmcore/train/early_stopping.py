"""Whether a training still gains anything. Needs no torch."""

from collections.abc import Mapping
from dataclasses import replace

from llmcore.config.train import TrainSettings
from llmcore.evaluation.compared import Compared
from llmcore.train.progress import Progress

__all__ = ["after_validation", "stops_early"]


def after_validation(
    progress: Progress, metrics: Mapping[str, float], compared: Compared, settings: TrainSettings
) -> Progress:
    """Progress that knows of a validation.

    Small gains add up: each is measured from the last value that gained more than `min_delta`, not from the best.
    """
    value = metrics[compared.key]
    min_delta = settings.early_stopping.min_delta if settings.early_stopping else 0.0
    if compared.gain(value, progress.gained_metric) > min_delta:
        return replace(progress, gained_metric=value, validations_without_gain=0)
    return replace(progress, validations_without_gain=progress.validations_without_gain + 1)


def stops_early(progress: Progress, settings: TrainSettings) -> bool:
    """Whether the last validations brought nothing; of a resumed run by the settings that it has now."""
    stopping = settings.early_stopping
    return stopping is not None and progress.validations_without_gain >= stopping.patience
