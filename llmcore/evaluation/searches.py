"""The records of a search, as the evaluation reads them: which trials there are, and whether more may come."""

import json
from dataclasses import dataclass
from typing import Any

import yaml

from llmcore.config.finetune import FinetuneSettings
from llmcore.config.tune import TuneConfig
from llmcore.errors import RunError
from llmcore.evaluation.candidates import Candidate, FineTuning
from llmcore.storage import Folder
from llmcore.tasks import task_class
from llmcore.tasks.text_to_text import TextToText

__all__ = ["Search", "with_values"]

_ENDED = ("finished", "stopped", "failed")


@dataclass(frozen=True)
class Search:
    """A `tune` run, by its folder. `prefix` stands before trial ids."""

    folder: Folder
    prefix: str = ""

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
        return TuneConfig.model_validate_json(json.dumps(yaml.safe_load(text)))

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
        ended = ((name, record if record and record["status"] in _ENDED else None) for name, record in found)
        return [self._trial(name, record) for name, record in ended if record is not None or closed is not None]

    def _trial(self, name: str, record: dict[str, Any] | None) -> Candidate:
        if record is None:
            lost = f"{self.folder.url}/trials/{name}/trial.json is missing, damaged, or says of no end"
            return Candidate(self.prefix + name, "trial", "failed", None, None, error=lost)
        model = record["model"]
        return Candidate(
            id=self.prefix + name,
            what="trial",
            status=record["status"],
            model=None if model is None else Folder(self.folder.url.rpartition("/")[0]) / model,
            model_sha256=record["model_sha256"],
            settings=record["config"],
            error=record["error"],
            num_steps=record["num_steps"],
            seed=record["seed"],
        )


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
