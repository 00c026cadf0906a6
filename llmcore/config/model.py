"""Which architecture, and its sizes, by the architecture's own field names."""

from typing import Any, Literal

from llmcore.config.base import Section, identity

__all__ = ["ModelSettings"]


class ModelSettings(Section):
    """A transformers architecture with random weights."""

    family: Literal["gpt2", "llama", "bert", "roberta", "modernbert"] = identity(
        "gpt2", description="Architecture: gpt2 and llama predict the next token, the others masked ones."
    )
    sizes: dict[str, Any] = identity(
        dict,
        description="Fields of the family's transformers config, by their own names (`n_layer`, `hidden_size`, …). "
        "Vocabulary, positions and special tokens come from the tokens.",
    )
