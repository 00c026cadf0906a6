"""`tune`: a search over fine-tuning configurations."""

from typing import Any, Literal

from pydantic import model_validator

from llmcore.config.base import Section, free, identity
from llmcore.config.common import JobSettings
from llmcore.config.finetune import FinetuneSettings
from llmcore.config.labelled import DataReference

__all__ = ["ASHASettings", "Range", "TuneConfig", "TuneSettings"]


class Range(Section):
    """Values of one key: a choice, or an interval."""

    choice: list[Any] | None = identity(None, min_length=1, description="One of these.")
    uniform: tuple[float, float] | None = identity(None, description="Uniform between two numbers.")
    log_uniform: tuple[float, float] | None = identity(None, description="Uniform in the logarithm.")

    @model_validator(mode="after")
    def _one_kind(self) -> "Range":
        given = [kind for kind in ("choice", "uniform", "log_uniform") if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of choice, uniform, log_uniform; got {given or 'none'}")
        interval = self.uniform or self.log_uniform
        if interval is not None and not interval[0] < interval[1]:
            raise ValueError(f"the interval {list(interval)} is empty: the first number must be the smaller")
        if self.log_uniform is not None and self.log_uniform[0] <= 0:
            raise ValueError(f"log_uniform needs positive numbers, got {list(self.log_uniform)}")
        return self


class ASHASettings(Section):
    """Asynchronous successive halving (Li et al., 2020): stops trials that fall behind at a rung."""

    grace_reports: int = identity(1, ge=1, description="Reports before a trial may be stopped.")
    reduction_factor: float = identity(3, gt=1, description="One of so many goes on from each rung.")


class TuneSettings(Section):
    """What `tune` does; the same section stands in a pipeline."""

    finetune: FinetuneSettings = identity(description="What each trial does, before its own values.")
    space: dict[str, Range] = identity(min_length=1, description="Dotted keys of `finetune`, and their values.")
    num_trials: int = identity(4, ge=1, description="Trials.")
    seed: int = identity(0, ge=0, description="Seed of the sampled values.")
    scheduler: Literal["fifo", "asha"] = identity("asha", description="`asha` stops trials that fall behind.")
    asha: ASHASettings = identity(ASHASettings, description="ASHA's settings.")
    max_concurrent_trials: int | None = free(None, ge=1, description="Null: as many as the cluster holds.")


class TuneConfig(JobSettings, TuneSettings):
    """`python -m jobs tune`."""

    base: str = identity(description="Name, URL or folder of the base model, as for `finetune`.")
    data: DataReference = identity(
        description="`<prepare run>/<labelled set name>`, the URL of an evaluation set, or files to make one of."
    )
