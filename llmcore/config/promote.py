"""`promote`: the model that an evaluation has chosen, under a name of its own."""

from llmcore.config.base import identity
from llmcore.config.common import JobSettings

__all__ = ["PromoteConfig"]


class PromoteConfig(JobSettings):
    """`python -m jobs promote EVALUATION NAME`."""

    evaluation: str = identity(description="Name or URL of the `evaluate` run whose chosen model is published.")
