"""Which model: an architecture and its sizes, by the architecture's own field names, or one that is there."""

from typing import Any

from pydantic import model_validator

from llmcore.config.base import Section, identity
from llmcore.config.presets import PRESETS, Family, PresetName

__all__ = ["ModelSettings"]


class ModelSettings(Section):
    """A transformers architecture with random weights, or a pre-trained model that is trained on."""

    family: Family | None = identity(
        None,
        description="Architecture: gpt2, llama and qwen3 predict the next token, bert, roberta and modernbert masked "
        "ones, t5 and bart are encoder-decoders. Null: that of `preset` or `folder`, else gpt2.",
    )
    preset: PresetName | None = identity(
        None, description="Family and sizes of a well-known model; `sizes` changes single ones."
    )
    folder: str | None = identity(
        None,
        description="Path or URL of a Hugging Face folder whose weights the training begins with. The tokens are "
        "prepared with its tokenizer (`prepare.tokenizer.folder`); entries that were added there get embeddings.",
    )
    sizes: dict[str, Any] = identity(
        dict,
        description="Fields of the family's transformers config, by their own names (`n_layer`, `hidden_size`, …). "
        "Vocabulary, positions and special tokens come from the tokens.",
    )

    @model_validator(mode="before")
    @classmethod
    def _family_of_the_preset(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("family") is None and given.get("folder") is None:
            name = given.get("preset")
            preset = PRESETS.get(name) if isinstance(name, str) else None  # type: ignore[call-overload]
            return {**given, "family": preset.family if preset else "gpt2"}
        return given

    @model_validator(mode="after")
    def _one_origin(self) -> "ModelSettings":
        if self.folder is not None:
            if given := [name for name in ("family", "preset", "sizes") if getattr(self, name)]:
                raise ValueError(f"a model from `folder` has its own architecture: leave {', '.join(given)} out")
        elif self.preset is not None and self.family != PRESETS[self.preset].family:
            raise ValueError(f"preset={self.preset} is a {PRESETS[self.preset].family}: leave family={self.family} out")
        return self

    def all_sizes(self) -> dict[str, Any]:
        """The sizes of the preset, and those that are given."""
        return (PRESETS[self.preset].sizes if self.preset is not None else {}) | self.sizes
