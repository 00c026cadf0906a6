"""`promote`: the model that an evaluation has chosen, under a name of its own."""

from llmcore.config.base import free, identity
from llmcore.config.common import JobSettings

__all__ = ["PromoteConfig"]


class PromoteConfig(JobSettings):
    """`python -m jobs promote EVALUATION NAME`."""

    evaluation: str = identity(description="Name or URL of the `evaluate` run whose chosen model is published.")
    max_counterfactual_gap: float | None = free(
        None,
        ge=0,
        le=1,
        description="It is not published where its predictions on the test split move further, on average, when people "
        "are of the other group (exit code 3). Null: whatever they do.",
    )
