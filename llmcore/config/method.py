"""How much of a model a fine-tuning trains."""

from typing import Literal

from pydantic import model_validator

from llmcore.config.base import Section, identity

__all__ = ["MethodSettings"]


class MethodSettings(Section):
    """All of the model, its head, its upper layers, or adapters beside its matrices.

    Whatever the method, weights that the base model has not, those of a new head, train.
    """

    name: Literal["full", "lora", "qlora", "head_only"] = identity(
        "full",
        description="`lora` trains two thin matrices beside each of the layers' matrices (Hu et al. 2021) and is "
        "merged at the export; `qlora` does so beside matrices of 4 bits (Dettmers et al. 2023) and needs GPUs; "
        "`head_only` trains what stands on the backbone.",
    )
    rank: int = identity(8, ge=1, description="LoRA's rank: columns of the thin matrices.")
    alpha: float = identity(16.0, gt=0, description="LoRA's changes are multiplied by alpha / rank.")
    dropout: float = identity(0.0, ge=0, lt=1, description="Dropout before LoRA's matrices.")
    target_modules: list[str] | None = identity(
        None,
        min_length=1,
        description="Names, or ends of dotted names, of the linear layers that get LoRA's matrices. Null: all linear "
        "layers of the backbone's layers.",
    )
    frozen_layers: int = identity(
        0,
        ge=0,
        description="So many of the first layers do not train, nor do the embeddings, if there are any; of an "
        "encoder-decoder, the first ones of both stacks. LoRA leaves them without matrices.",
    )

    @property
    def has_adapters(self) -> bool:
        """Whether thin matrices train beside frozen ones."""
        return self.name in ("lora", "qlora")

    @property
    def trains_all(self) -> bool:
        """Whether nothing is frozen."""
        return self.name == "full" and not self.frozen_layers

    def without_quantization(self) -> "MethodSettings":
        """The same with whole matrices beside the adapters: what can be laid out without a GPU."""
        return self.model_copy(update={"name": "lora"}) if self.name == "qlora" else self

    @model_validator(mode="after")
    def _contradicts_nothing(self) -> "MethodSettings":
        if self.target_modules is not None and not self.has_adapters:
            raise ValueError(f"target_modules are LoRA's, and name={self.name}: leave them out, or use name=lora")
        if self.frozen_layers and self.name == "head_only":
            raise ValueError(
                f"frozen_layers={self.frozen_layers} with name=head_only: that freezes all layers; leave one out"
            )
        return self
