"""What an evaluation judges and chooses among: the trials of searches, and models that are named."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from llmcore.config.finetune import FinetuneSettings
from llmcore.config.labelled import LabelledDataSettings
from llmcore.errors import CorpusError
from llmcore.records import recorded_inputs
from llmcore.storage import Folder, content_hash
from llmcore.tasks.bases import find_base
from llmcore.tasks.evaluation_set import EvaluationSet, find_published
from llmcore.tasks.references import find_evaluation_set

__all__ = ["Candidate", "FineTuning", "Source", "candidates_hash"]


@dataclass(frozen=True)
class Candidate:
    """A model that may be chosen, or what there is instead of one.

    Attributes:
        id: Its name in the evaluation; of a trial, where not one search alone is judged, `<search>/<trial>`.
        what: What it is.
        status: finished, stopped or failed.
        model: The published folder; None when a trial left none.
        model_sha256: The hash of that folder's manifest.
        settings: The values that the search gave a trial, by dotted key.
        error: What went wrong, of a failed trial.
        num_steps: Optimizer steps of the model.
        seed: The `train.seed` of its fine-tuning.
    """

    id: str
    what: Literal["trial", "model"]
    status: str
    model: Folder | None
    model_sha256: str | None
    settings: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    num_steps: int | None = None
    seed: int | None = None

    def __str__(self) -> str:
        return f"{self.what} {self.id}"


@dataclass(frozen=True)
class FineTuning:
    """How candidates are made, as the record of their run says.

    Attributes:
        run: That run's folder; its runs and artifacts are kept where it is.
        settings: What one fine-tuning does; a trial's own values stand in its place there.
        base: The base model, as the run names it.
        data: The labelled set, as the run names it.
    """

    run: Folder
    settings: FinetuneSettings
    base: str
    data: str | LabelledDataSettings

    @property
    def storage(self) -> Folder:
        """The folder that the run's folder is in."""
        return self.run.parent

    def learnt(self) -> EvaluationSet:
        """The labelled set; one from files is that which the run began with, wherever these are by now.

        Raises:
            CorpusError: There is no such set.
        """
        if isinstance(self.data, str):
            return find_evaluation_set(self.storage, self.data)
        begun_with = recorded_inputs(self.storage, self.run.name)
        labelled = find_published(self.storage, begun_with["data"]) if begun_with is not None else None
        if labelled is None:
            raise CorpusError(f"the labelled set that {self.run.url} learns has gone: run it again, and it is made")
        return labelled

    def checked_sets(self) -> list[str] | None:
        """Hashes of the sets whose held-out rows the text of pre-training was checked for; None: unknown."""
        try:
            checked: list[str] | None = find_base(self.storage, self.base)[1].about.get("decontaminated")
        except CorpusError:
            return None  # The models are there, what they were made from is not.
        return checked


class Source(Protocol):
    """Where candidates come from."""

    @property
    def name(self) -> str:
        """For messages."""

    def closed(self) -> list[str] | None:
        """Names of all its candidates once no more will come; None before."""

    def candidates(self) -> list[Candidate]:
        """Those that there are by now."""

    def task_kind(self) -> str | None:
        """The kind of task that it learns; None before it has begun."""

    def writes(self) -> bool:
        """Whether its candidates are models that write; asked once it has begun."""

    def fine_tuning(self) -> FineTuning | None:
        """How its candidates are made; None where there is no record of that, or not yet."""


def candidates_hash(candidates: Sequence[Candidate], set_hash: str, *others: str) -> str:
    """A hash of what there was to judge: when it is the same again, nothing has to be done again.

    Args:
        candidates: The models, and what went wrong.
        set_hash: The labelled set that they were judged on.
        others: Hashes of what else there was.
    """
    judged = [[one.id, one.status, one.model_sha256, one.error] for one in candidates]
    return content_hash(judged, set_hash, *others)
