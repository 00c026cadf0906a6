"""Published sets that measure what a language model has learnt of groups of people."""

from typing import Literal, get_args

from pydantic import model_validator

from llmcore.config.base import Section, identity
from llmcore.config.common import Name

__all__ = ["BiasKind", "BiasSetSettings", "BiasSettings"]

BiasKind = Literal["crows_pairs", "stereoset", "winobias", "winogender", "bbq", "weat", "seat", "bold"]

_OF_KIND: dict[str, tuple[BiasKind, ...]] = {
    "types": ("winobias",),
    "part": ("stereoset",),
    "categories": ("bbq",),
    "tests": ("weat", "seat"),
    "limit": ("crows_pairs", "stereoset", "winobias", "winogender", "bbq", "bold"),
    "domains": ("bold",),
    "classifier": ("bold",),
    "label": ("bold",),
    "max_new_tokens": ("bold",),
    "generation_seed": ("bold",),
}
"""The kinds of set that a key is for."""


class BiasSetSettings(Section):
    """One published set, as its makers distribute it; none comes with this package."""

    kind: BiasKind = identity(description="Which set it is: what its files look like, and what is measured by it.")
    url: str = identity(description="The folder of its files: a path, or any fsspec URL.")
    types: list[Literal[1, 2]] = identity(
        [1, 2], min_length=1, description="`winobias`: its types of sentences; each has figures of its own."
    )
    part: Literal["intrasentence", "intersentence"] = identity(
        "intrasentence", description="`stereoset`: which part of its `dev.json`."
    )
    categories: list[str] | None = identity(
        None,
        min_length=1,
        description="`bbq`: the categories, as its files are called (`Age` of `Age.jsonl.gz`). Null: all that are "
        "there.",
    )
    tests: list[str] | None = identity(
        None,
        min_length=1,
        description="`weat`, `seat`: names of its files without `.jsonl` or `.json`. Null: all `*.jsonl`; of `seat` "
        "those whose name begins with `sent-`, of `weat` the others.",
    )
    domains: list[str] | None = identity(
        None,
        min_length=1,
        description="`bold`: the domains, as its files are called (`gender` of `gender_prompt.json`). Null: all that "
        "are there.",
    )
    classifier: str | None = identity(
        None,
        description="`bold`: by what continuations are judged, a classifier: the run of a `finetune`, in a pipeline a "
        "stage of it (`${sentiment}`), or the URL of a folder of Hugging Face.",
    )
    label: str | None = identity(
        None, description="`bold`: the class of the classifier whose probability is compared between groups."
    )
    max_new_tokens: int = identity(40, ge=1, description="`bold`: tokens of a continuation, at most.")
    generation_seed: int = identity(0, ge=0, description="`bold`: seed of the continuations, which are drawn.")
    limit: int | None = identity(
        None,
        ge=1,
        description="As many rows at most, chosen by the hash of their content, the same ones for each model; figures "
        "say how many. Null: all. `weat` and `seat` are short, and are not cut.",
    )

    @model_validator(mode="after")
    def _keys_are_of_its_kind(self) -> "BiasSetSettings":
        for key, kinds in _OF_KIND.items():
            default = type(self).model_fields[key].get_default(call_default_factory=True)
            if self.kind not in kinds and getattr(self, key) != default:
                raise ValueError(f"{key}= is for {', '.join(kinds)}, and this is {self.kind}: leave it out")
        if self.kind == "bold" and (self.classifier is None or self.label is None):
            raise ValueError("bold compares what is written by a classifier: give `classifier`, and its `label`")
        for key in ("types", "categories", "tests", "domains"):
            if (given := getattr(self, key)) and len(set(given)) < len(given):
                raise ValueError(f"{key}={given} names one twice")
        return self


class BiasSettings(Section):
    """What measures the bias of language models: decoders and masked ones; a model with another head is left out."""

    sets: dict[Name, BiasSetSettings] = identity(
        min_length=1,
        description=f"Sets, by what they are called here; a kind is one of {', '.join(get_args(BiasKind))}.",
    )
    models: dict[Name, str] = identity(
        dict,
        description="Further models, by what they are called here, of which nothing else is judged: a run that has "
        "ended (a `pretrain` run, say), a published model's URL, a Hugging Face folder, or `owner/name` of the hub.",
    )
    against: Name | None = identity(
        None,
        description="One of `models`, against which every other model is held: what its figures are less that one's, "
        "with intervals of which both are asked the same rows. Null: each stands for itself.",
    )

    @model_validator(mode="after")
    def _against_one_of_them(self) -> "BiasSettings":
        if self.against is not None and self.against not in self.models:
            there = ", ".join(self.models) or "none"
            raise ValueError(f"against={self.against}: it is none of bias.models, which has {there}: add it there")
        return self
