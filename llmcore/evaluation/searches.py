"""The records of a search, as the evaluation reads them: which trials there are, and whether more may come."""

import json
from dataclasses import dataclass
from typing import Any

import yaml

from llmcore.config.finetune import FinetuneSettings
from llmcore.config.tune import TuneConfig
from llmcore.errors import CorpusError, RunError
from llmcore.records import recorded_inputs
from llmcore.storage import Folder, content_hash
from llmcore.tasks.evaluation_set import EvaluationSet, find_published
from llmcore.tasks.references import find_evaluation_set

__all__ = ["Search", "Trial", "trials_hash", "with_values"]

_ENDED = ("finished", "stopped", "failed")


@dataclass(frozen=True)
class Trial:
    """One trial's record.

    Attributes:
        id: Its name in the search; behind `<search>/` where several searches are judged together.
        status: finished, stopped or failed.
        settings: The values that the search gave it, by dotted key.
        model: The published folder of its best export; None when it left none.
        model_sha256: The hash of that folder's manifest.
        error: What went wrong, of a failed trial.
        num_steps: Optimizer steps that it took; those of the best export may be fewer.
        seed: Its `train.seed`.
    """

    id: str
    status: str
    settings: dict[str, Any]
    model: Folder | None
    model_sha256: str | None
    error: str | None
    num_steps: int | None
    seed: int | None


@dataclass(frozen=True)
class Search:
    """A `tune` run, by its folder. `storage` is where its runs and artifacts are; `prefix` stands before trial ids."""

    folder: Folder
    prefix: str = ""

    @property
    def storage(self) -> Folder:
        """The folder that the run's folder is in."""
        return Folder(self.folder.url.rpartition("/")[0])

    def config(self) -> TuneConfig | None:
        """Its configuration as resolved; None before it has begun.

        Raises:
            RunError: The folder holds another kind of run.
        """
        run = self.folder.find_json("run.json")
        text = self.folder.find_bytes("config.yaml")
        if run is None or text is None:
            return None
        if run["kind"] != "tune":
            raise RunError(f"{self.folder.url} is a {run['kind']!r} run: `searches` names `tune` runs")
        return TuneConfig.model_validate_json(json.dumps(yaml.safe_load(text)))

    def evaluation_set(self, config: TuneConfig) -> EvaluationSet:
        """The labelled set that it learns; one from files is that which it began with, wherever these are by now.

        Raises:
            CorpusError: There is no such set.
        """
        if isinstance(config.data, str):
            return find_evaluation_set(self.storage, config.data)
        begun_with = recorded_inputs(self.storage, self.folder.name)
        labelled = find_published(self.storage, begun_with["data"]) if begun_with is not None else None
        if labelled is None:
            raise CorpusError(
                f"the labelled set that {self.folder.url} learns has gone: run `tune` again, and it is made"
            )
        return labelled

    def closed(self) -> list[str] | None:
        """Ids of all its trials once no more will come; None before."""
        record = self.folder.find_json("search.json")
        return list(record["trials"]) if record is not None and record["closed"] else None

    def trials(self) -> list[Trial]:
        """All trials that have ended, by id. Of a closed search one whose record is damaged is listed as failed."""
        closed = self.closed()
        names = sorted(closed) if closed is not None else (self.folder / "trials").names()
        found = ((name, (self.folder / "trials" / name).find_json("trial.json")) for name in names)
        ended = ((name, record if record and record["status"] in _ENDED else None) for name, record in found)
        return [self._trial(name, record) for name, record in ended if record is not None or closed is not None]

    def _trial(self, name: str, record: dict[str, Any] | None) -> Trial:
        if record is None:
            lost = f"{self.folder.url}/trials/{name}/trial.json is missing, damaged, or says of no end"
            return Trial(self.prefix + name, "failed", {}, None, None, lost, None, None)
        model = record["model"]
        return Trial(
            id=self.prefix + name,
            status=record["status"],
            settings=record["config"],
            model=None if model is None else self.storage / model,
            model_sha256=record["model_sha256"],
            error=record["error"],
            num_steps=record["num_steps"],
            seed=record["seed"],
        )


def trials_hash(trials: list[Trial]) -> str:
    """A hash of what there was to judge: when it is the same again, nothing has to be done again."""
    return content_hash([[trial.id, trial.status, trial.model_sha256, trial.error] for trial in trials])


def with_values(settings: FinetuneSettings, values: dict[str, Any]) -> FinetuneSettings:
    """The settings with the values that a search gave a trial, by dotted key.

    Raises:
        RunError: A key is not one of the settings'.
    """
    data = settings.model_dump(mode="json")
    for dotted, value in values.items():
        *sections, key = dotted.split(".")
        place: Any = data
        for section in sections:
            place = place.get(section) if isinstance(place, dict) else None
        if not isinstance(place, dict) or key not in place:
            raise RunError(f"a trial was given {dotted}={value!r}, which is no key of `finetune`")
        place[key] = value
    return FinetuneSettings.model_validate_json(json.dumps(data))
