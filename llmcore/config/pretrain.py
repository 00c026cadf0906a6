"""`pretrain`: from token shards to a pre-trained model."""

from typing import Literal

from pydantic import model_validator

from llmcore.config.base import Section, free, identity
from llmcore.config.common import JobSettings, WorkerSettings
from llmcore.config.corruption import InfillingSettings, SpanSettings
from llmcore.config.masking import MaskingSettings
from llmcore.config.model import ModelSettings
from llmcore.config.stream import StreamSettings
from llmcore.config.train import TrainSettings, check_shares

__all__ = ["FAMILIES", "ObjectiveName", "PretrainConfig", "PretrainSettings"]

ObjectiveName = Literal["causal_lm", "masked_lm", "span_corruption", "fill_in_the_middle"]

_DECODERS = ("gpt2", "llama", "qwen3")
FAMILIES: dict[ObjectiveName, tuple[str, ...]] = {
    "causal_lm": _DECODERS,
    "masked_lm": ("bert", "roberta", "modernbert"),
    "span_corruption": ("t5", "bart"),
    "fill_in_the_middle": _DECODERS,
}
"""Architectures that each objective trains."""


class PretrainSettings(Section):
    """What `pretrain` does; the same section stands in a pipeline."""

    model: ModelSettings = identity(ModelSettings, description="The model, before the first step.")
    objective: ObjectiveName = identity(
        "causal_lm",
        description="What the model learns: the next token (GPT), masked ones (BERT), spans that were cut out (T5), or "
        "the next token of documents of which some have their middle last (code).",
    )
    masking: MaskingSettings = identity(MaskingSettings, description="Which tokens `masked_lm` masks.")
    spans: SpanSettings = identity(SpanSettings, description="What `span_corruption` cuts out.")
    infilling: InfillingSettings = identity(
        InfillingSettings, description="Which documents `fill_in_the_middle` takes apart."
    )
    train: TrainSettings = identity(description="The optimization.")
    workers: WorkerSettings = free(WorkerSettings, description="The Ray Train workers.")
    validation_rows: int | None = free(
        None, ge=1, description="Rows of each validation during the run; the last one takes all. Null: always all."
    )
    sample_prompts: list[str] = free(list, description="Prompts continued by the exported model, for the report.")

    @model_validator(mode="after")
    def _objective_fits_the_family(self) -> "PretrainSettings":
        fits = FAMILIES[self.objective]
        if self.model.family is not None and self.model.family not in fits:
            raise ValueError(f"objective={self.objective} trains {', '.join(fits)}, not {self.model.family}")
        if fits != _DECODERS and self.sample_prompts:
            raise ValueError(f"sample_prompts= are continued, which {self.objective} does not teach: leave them out")
        return self

    @model_validator(mode="after")
    def _each_worker_has_a_row(self) -> "PretrainSettings":
        check_shares(self.train, self.workers)
        return self


class PretrainConfig(JobSettings, PretrainSettings):
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
        if self.stream is not None and self.train.num_steps is None:
            raise ValueError("train.num_epochs= needs the number of rows, which a stream does not know: give num_steps")
        return self
