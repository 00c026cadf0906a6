"""`pipeline`: all stages, one file."""

from pydantic import model_validator

from llmcore.config.base import Section, free, identity
from llmcore.config.common import JobSettings
from llmcore.config.evaluate import EvaluateConfig, EvaluateSettings
from llmcore.config.judging import JUDGING
from llmcore.config.prepare import PrepareConfig, PrepareSettings
from llmcore.config.pretrain import PretrainConfig, PretrainSettings, check_pairs
from llmcore.config.tune import TuneConfig, TuneSettings

__all__ = ["PipelineConfig", "ReportConfig"]


class ReportConfig(JobSettings):
    """`python -m jobs report`: writes `report.html` of a pipeline from its runs' records."""

    pipeline: str = identity(description="Name of the pipeline whose runs are reported.")


class PipelineConfig(JobSettings):
    """`python -m jobs pipeline`."""

    prepare: PrepareSettings = identity(description="Stage 1.")
    pretrain: PretrainSettings = identity(description="Stage 2, on the tokens of stage 1.")
    tune: TuneSettings = identity(description="Stage 3, from the model of stage 2, on a labelled set of stage 1.")
    labelled_set: str = identity(description="Name of the labelled set, of stage 1, that stage 3 learns.")
    evaluate: EvaluateSettings = free(EvaluateSettings, description="Stage 4, beside stage 3.")

    @model_validator(mode="after")
    def _labelled_set_is_prepared(self) -> "PipelineConfig":
        names = [labelled.name for labelled in self.prepare.labelled_sets]
        if self.labelled_set not in names:
            raise ValueError(f"labelled_set={self.labelled_set!r} is not one of prepare.labelled_sets {names}")
        return self

    @model_validator(mode="after")
    def _pairs_are_prepared(self) -> "PipelineConfig":
        check_pairs(self.prepare, self.pretrain.next_sentence)
        return self

    @model_validator(mode="after")
    def _metrics_are_of_the_task(self) -> "PipelineConfig":
        kind = self.tune.finetune.task.kind
        if kind in JUDGING:
            self.evaluate.judged_by(kind)
        return self

    def _stage(self, stage: str, section: Section) -> dict[str, object]:
        return {
            "name": f"{self.name}.{stage}",
            "storage": self.storage,
            "cluster": self.cluster,
            **{field: getattr(section, field) for field in type(section).model_fields},
        }

    def prepare_config(self) -> PrepareConfig:
        """Stage 1 as a job of its own."""
        return PrepareConfig.model_validate(self._stage("prepare", self.prepare))

    def pretrain_config(self) -> PretrainConfig:
        """Stage 2 as a job of its own."""
        return PretrainConfig.model_validate(
            self._stage("pretrain", self.pretrain) | {"tokens": f"{self.name}.prepare"}
        )

    def tune_config(self) -> TuneConfig:
        """Stage 3 as a job of its own."""
        return TuneConfig.model_validate(
            self._stage("tune", self.tune)
            | {"base": f"{self.name}.pretrain", "data": f"{self.name}.prepare/{self.labelled_set}"}
        )

    def evaluate_config(self) -> EvaluateConfig:
        """Stage 4 as a job of its own."""
        return EvaluateConfig.model_validate(
            self._stage("evaluate", self.evaluate)
            | {"searches": [f"{self.name}.tune"], "follow": True, "workers": self.tune.finetune.workers}
        )

    def report_config(self) -> ReportConfig:
        """Stage 5 as a job of its own."""
        return ReportConfig(name=f"{self.name}.report", storage=self.storage, cluster=self.cluster, pipeline=self.name)
