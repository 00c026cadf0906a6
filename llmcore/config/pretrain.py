"""`pretrain`: from token shards to a pre-trained model."""

import re
from typing import Literal

from pydantic import model_validator

from llmcore.config.base import Section, free, identity
from llmcore.config.common import ModelJobSettings, WorkerSettings
from llmcore.config.corruption import InfillingSettings, SpanSettings
from llmcore.config.masking import MaskingSettings
from llmcore.config.model import ModelSettings
from llmcore.config.prepare import PrepareSettings
from llmcore.config.stream import StreamSettings
from llmcore.config.train import TrainSettings, check_shares

__all__ = ["FAMILIES", "Learnt", "ObjectiveName", "PretrainConfig", "PretrainSettings", "check_pairs"]

ObjectiveName = Literal["causal_lm", "masked_lm", "span_corruption", "fill_in_the_middle"]
Learnt = Literal[ObjectiveName, "next_sentence"]
"""What a model has heads for: an objective; or `masked_lm` and next sentences, together."""

_DECODERS = ("gpt2", "llama", "qwen3")
FAMILIES: dict[Learnt, tuple[str, ...]] = {
    "causal_lm": _DECODERS,
    "masked_lm": ("bert", "roberta", "modernbert"),
    "span_corruption": ("t5", "bart"),
    "fill_in_the_middle": _DECODERS,
    "next_sentence": ("bert",),
}
"""Architectures that learn each of them."""


def check_pairs(prepared: PrepareSettings, next_sentence: bool) -> None:
    """Raises ValueError where rows are sentence pairs that nobody learns from, or are none and should be."""
    if prepared.packing.sentence_pairs != next_sentence:
        pairs = str(prepared.packing.sentence_pairs).lower()
        raise ValueError(
            f"packing.sentence_pairs={pairs} and next_sentence={str(next_sentence).lower()}: pairs are made for "
            "next_sentence, which needs them; set both, or neither"
        )


class PretrainSettings(Section):
    """What `pretrain` does."""

    model: ModelSettings = identity(ModelSettings, description="The model, before the first step.")
    objective: ObjectiveName = identity(
        "causal_lm",
        description="What the model learns: the next token (GPT), masked ones (BERT), spans that were cut out (T5), or "
        "the next token of documents of which some have their middle last (code).",
    )
    masking: MaskingSettings = identity(MaskingSettings, description="Which tokens `masked_lm` masks.")
    next_sentence: bool = identity(
        False,
        description="`masked_lm` of a BERT learns, too, whether the second segment of a pair follows the first; its "
        "loss is the sum of both. The tokens are made with `packing.sentence_pairs`.",
    )
    spans: SpanSettings = identity(SpanSettings, description="What `span_corruption` cuts out.")
    infilling: InfillingSettings = identity(
        InfillingSettings, description="Which documents `fill_in_the_middle` takes apart."
    )
    train: TrainSettings = identity(description="The optimization.")
    workers: WorkerSettings = free(WorkerSettings, description="The Ray Train workers.")
    validation_rows: int | None = free(
        None, ge=1, description="Rows that each validation measures, of each set: a sample, always the same. Null: all."
    )
    validation_sets: dict[str, str] = free(
        dict,
        description="Further held-out sets, measured at each validation as `validation_NAME_loss`: name or URL of a "
        "`prepare` run with the same tokenizer, whose validation split is taken. They choose nothing.",
    )
    sample_prompts: list[str] = free(
        list, description="Prompts continued at each validation, and by the exported model for the report."
    )

    @property
    def learnt(self) -> Learnt:
        """The objective, and whether next sentences are learnt with it."""
        return "next_sentence" if self.next_sentence else self.objective

    @model_validator(mode="after")
    def _objective_fits_the_family(self) -> "PretrainSettings":
        if self.next_sentence and self.objective != "masked_lm":
            raise ValueError(f"next_sentence=true goes with objective=masked_lm, not {self.objective}: leave it out")
        fits = FAMILIES[self.learnt]
        if self.model.family is not None and self.model.family not in fits:
            asked = f"objective={self.objective}" + (" with next_sentence=true" if self.next_sentence else "")
            raise ValueError(f"{asked} trains {', '.join(fits)}, not {self.model.family}")
        if fits != _DECODERS and self.sample_prompts:
            raise ValueError(f"sample_prompts= are continued, which {self.objective} does not teach: leave them out")
        return self

    @model_validator(mode="after")
    def _sets_have_names_of_their_own(self) -> "PretrainSettings":
        for name in self.validation_sets:
            if not re.fullmatch("[a-z][a-z0-9_]*", name) or name.endswith("next_sentence"):
                raise ValueError(
                    f"validation_sets={list(self.validation_sets)}: {name!r} cannot stand in the name of a metric: "
                    "give lower case letters, digits and `_`, a letter first, and no next_sentence at the end, which "
                    "is the loss of sentence pairs"
                )
        return self

    @model_validator(mode="after")
    def _each_worker_has_a_row(self) -> "PretrainSettings":
        check_shares(self.train, self.workers)
        return self


class PretrainConfig(ModelJobSettings, PretrainSettings):
    """`python -m jobs pretrain`."""

    tokens: str | None = identity(
        None, description="Name or URL of the `prepare` run whose token shards are read; or give `stream`."
    )
    stream: StreamSettings | None = identity(
        None, description="Raw shards to train on, tokenized and packed meanwhile; or give `tokens`."
    )

    @model_validator(mode="after")
    def _one_kind_of_data(self) -> "PretrainConfig":
        if (self.tokens is None) == (self.stream is None):
            raise ValueError("give exactly one of `tokens` and `stream`")
        if self.stream is not None:
            check_pairs(self.stream, self.next_sentence)
        if self.stream is not None and self.train.num_steps is None:
            raise ValueError("train.num_epochs= needs the number of rows, which a stream does not know: give num_steps")
        if self.stream is not None and self.workers.elastic is not None:
            raise ValueError(
                f"workers.elastic={self.workers.elastic} with `stream`: they would take the CPUs that make its rows; "
                "give workers.num_workers, or prepare the tokens first"
            )
        return self
