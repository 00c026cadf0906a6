"""What is done with a step whose loss jumps."""

from typing import Literal

from llmcore.config.base import Section, identity

__all__ = ["SpikeSettings"]


class SpikeSettings(Section):
    """A step spikes when its loss is not finite, or is above `factor` times the median of the last `window` steps.

    Its rows are consumed all the same, and the schedule moves on, so that the order of data stays arithmetic.
    """

    action: Literal["skip", "roll_back"] = identity(
        "skip",
        description="`skip`: the optimizer does not step. `roll_back`: besides, weights and optimizer go back to the "
        "newest checkpoint, and the rows since are passed over.",
    )
    factor: float = identity(2.0, gt=1, description="How far above the median a loss must be.")
    window: int = identity(32, ge=2, le=1024, description="Accepted steps that the median is over; fewer spike never.")
    max_in_a_row: int = identity(10, ge=1, description="More spikes than these, one after the other, end the run.")
