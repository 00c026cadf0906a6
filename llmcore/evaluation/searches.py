"""The records of a search, as the evaluation reads them: which trials there are, and whether more may come."""

import json
from dataclasses import dataclass
from typing import Any

from llmcore.config.document import plain_yaml
from llmcore.config.finetune import FinetuneSettings
from llmcore.config.tune import TuneConfig
from llmcore.errors import ConfigError, RunError
from llmcore.evaluation.candidates import Candidate, FineTuning
from llmcore.records import run_folder
from llmcore.storage import Folder
from llmcore.tasks import task_class
from llmcore.tasks.text_to_text import TextToText

__all__ = ["ENDED", "Search", "trial_id", "value_at", "with_values"]

ENDED = ("finished", "stopped", "failed")
"""What the record of a trial that has ended says."""


@dataclass(frozen=True)
class Search:
    """A `tune` run, by its folder. `prefix` stands before trial ids."""

    folder: Folder
    prefix: str = ""

    @classmethod
    def find(cls, storage: Folder, reference: str) -> "Search":
        """A search that has begun, by its name in the storage or its URL.

        Raises:
            ConfigError: There is none.
        """
        search = cls(run_folder(storage, reference))
        try:
            begun = search.config() is not None
        except RunError as error:
            raise ConfigError(str(error)) from error
        if not begun:
            raise ConfigError(f"there is no `tune` run at {search.folder.url}")
        return search

    @property
    def name(self) -> str:
        """The run's."""
        return self.folder.name

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
        return TuneConfig.model_validate_json(json.dumps(plain_yaml(text)))

    def task_kind(self) -> str | None:
        """The kind of task that is searched for."""
        config = self.config()
        return None if config is None else config.finetune.task.kind

    def writes(self) -> bool:
        """Whether what is searched for is a model whose answers are written."""
        config = self.config()
        assert config is not None, self.folder.url
        task = config.finetune.task
        return issubclass(task_class(task.kind, task.answer), TextToText)

    def fine_tuning(self) -> FineTuning | None:
        """What its trials have in common."""
        config = self.config()
        return None if config is None else FineTuning(self.folder, config.finetune, config.base, config.data)

    def closed(self) -> list[str] | None:
        """Ids of all its trials once no more will come; None before."""
        record = self.folder.find_json("search.json")
        return list(record["trials"]) if record is not None and record["closed"] else None

    def candidates(self) -> list[Candidate]:
        """All trials that have ended, by id. Of a closed search one whose record is damaged is listed as failed."""
        closed = self.closed()
        names = sorted(closed) if closed is not None else (self.folder / "trials").names()
        found = ((name, (self.folder / "trials" / name).find_json("trial.json")) for name in names)
        ended = ((name, record if record and record["status"] in ENDED else None) for name, record in found)
        return [self._trial(name, record) for name, record in ended if record is not None or closed is not None]

    def config_trial(self) -> str | None:
        """The id of the trial whose point is `finetune` as it stands, where the search tries that."""
        config = self.config()
        if config is None or "config" not in config.first_points:
            return None
        return trial_id(config.first_points.index("config"))

    def best_point(self) -> dict[str, Any]:
        """The values of the trial that was the best on validation, by dotted key.

        Raises:
            ConfigError: The search has not ended, or none of its trials has left a model.
        """
        record = self.folder.find_json("search.json")
        if record is None or not record["closed"]:
            raise ConfigError(f"the search {self.folder.url} has not ended: its best point is not known yet")
        best = None if record.get("best") is None else (self.folder / "trials" / record["best"]).find_json("trial.json")
        if best is None:
            raise ConfigError(f"no trial of the search {self.folder.url} has left a model")
        return dict(best["point"])

    def _trial(self, name: str, record: dict[str, Any] | None) -> Candidate:
        if record is None:
            lost = f"{self.folder.url}/trials/{name}/trial.json is missing, damaged, or says of no end"
            return Candidate(self.prefix + name, "trial", "failed", None, None, error=lost)
        model = record["model"]
        return Candidate(
            id=self.prefix + name,
            what="trial",
            status=record["status"],
            model=None if model is None else self.folder.parent / model,
            model_sha256=record["model_sha256"],
            settings=record.get("point") or record["config"],
            error=_failure(record),
            num_steps=record["num_steps"],
            seed=record["seed"],
        )


def trial_id(number: int) -> str:
    """The name of a search's trial by its number: the same in each start."""
    return f"trial-{number:03d}"


def _failure(record: dict[str, Any]) -> str | None:
    """Why a trial failed: its cause, and the words for it."""
    cause, error = record.get("cause"), record["error"]
    return f"{cause}: {error}" if cause else error


def value_at(settings: FinetuneSettings, dotted: str) -> Any:
    """The value that the settings have at a dotted key.

    Raises:
        ConfigError: There is no such key.
    """
    place: Any = settings.model_dump(mode="json")
    for key in dotted.split("."):
        if not isinstance(place, dict) or key not in place:
            raise ConfigError(f"space.{dotted} is no key of `finetune`")
        place = place[key]
    return place


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
