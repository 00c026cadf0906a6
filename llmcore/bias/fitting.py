"""Which models can be asked how likely a sentence is."""

from typing import Any

from llmcore.config.pretrain import FAMILIES
from llmcore.storage import Folder

__all__ = ["is_masked", "why_not_measured"]

_MASKED = ("ForMaskedLM", "ForPreTraining")


def is_masked(model: Folder) -> bool:
    """Whether a model folder holds a masked language model, which does not write."""
    return str((model.read_json("config.json").get("architectures") or [""])[0]).endswith(_MASKED)


def why_not_measured(model: Folder) -> str | None:
    """Why nothing here can be measured of a model folder, to be read behind its name; None where it can be."""
    from llmcore.models.generation.loading import way_to_write

    config: dict[str, Any] = model.read_json("config.json")
    family = str(config.get("model_type"))
    name = (config.get("architectures") or ["no architecture"])[0]
    decodes, fills = way_to_write(name) == "causal", name.endswith(_MASKED)
    if (decodes and family in FAMILIES["causal_lm"]) or (fills and family in FAMILIES["masked_lm"]):
        return None
    known = ", ".join(FAMILIES["causal_lm"] + FAMILIES["masked_lm"])
    if decodes or fills:
        return f"is a {family}, and sentences are scored by {known}"
    return f"is a {name}, which has no likelihood of sentences: {known} with the head of their pre-training have one"
