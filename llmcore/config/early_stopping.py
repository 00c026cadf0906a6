"""When a training that learns no more is ended."""

from llmcore.config.base import Section, flagged

__all__ = ["EarlyStoppingSettings"]


class EarlyStoppingSettings(Section):
    """A training ends when so many validations, one after the other, have brought nothing to speak of.

    It is judged by what chooses the best export: a fine-tuning's `task.validation_metric`, a pre-training's loss.
    """

    patience: int = flagged(3, ge=1, description="Validations without a gain, one after the other, that end it.")
    min_delta: float = flagged(
        0.0, ge=0, description="A gain is more than this, over the best value that was itself a gain."
    )
