"""`pretrain`: from token shards to a pre-trained model."""

from typing import Literal

from pydantic import model_validator

from llmcore.config.base import Section, free, identity
from llmcore.config.common import JobSettings, WorkerSettings
from llmcore.config.model import ModelSettings
from llmcore.config.stream import StreamSettings
from llmcore.config.train import TrainSettings, check_shares

__all__ = ["PretrainConfig", "PretrainSettings"]


class PretrainSettings(Section):
    """What `pretrain` does; the same section stands in a pipeline."""

    model: ModelSettings = identity(ModelSettings, description="The model, from random weights.")
    objective: Literal["causal_lm"] = identity("causal_lm", description="What the model learns to predict.")
    train: TrainSettings = identity(description="The optimization.")
    workers: WorkerSettings = free(WorkerSettings, description="The Ray Train workers.")
    validation_rows: int | None = free(
        None, ge=1, description="Rows of each validation during the run; the last one takes all. Null: always all."
    )
    sample_prompts: list[str] = free(list, description="Prompts continued by the exported model, for the report.")

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
