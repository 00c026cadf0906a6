"""Baselines that need no training: what a model has to beat to have learnt anything, by kind of task."""

from typing import TYPE_CHECKING, Protocol

from llmcore.evaluation.baselines.copies import COPY_SOURCE, LEAD_3
from llmcore.evaluation.baselines.majority import MajorityClass
from llmcore.evaluation.results import Evaluation
from llmcore.evaluation.score import Predictions
from llmcore.evaluation.suite import Suite
from llmcore.tasks.evaluation_set import EvaluationSet

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BaselineModel", "baseline_model"]


class BaselineModel(Protocol):
    """What predicts without having been trained."""

    @property
    def model_sha256(self) -> str:
        """The hash of what it is made of: it names its stored results."""

    def predict(self, rows: "pa.Table") -> Predictions:
        """Predictions for rows of the labelled set, in their order."""

    def describe(self, evaluation: Evaluation) -> dict[str, str]:
        """What there is to say of it, once it is judged."""


def baseline_model(name: str, labelled: EvaluationSet, suite: Suite) -> BaselineModel:
    """The baseline of a name, which is one of `config.judging.BASELINES` but `random_weights`, which is trained."""
    match name:
        case "majority":
            return MajorityClass.of(labelled, suite)
        case "copy_source":
            return COPY_SOURCE
        case "lead_3":
            return LEAD_3
        case _:
            raise ValueError(f"{name!r} is no baseline without training")
