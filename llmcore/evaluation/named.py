"""Models that a configuration names: those of fine-tuning runs, and any that are published."""

import json
from dataclasses import dataclass

from llmcore.config.document import plain_yaml
from llmcore.config.finetune import FinetuneConfig, FinetuneSettings
from llmcore.errors import CheckpointError, ConfigError
from llmcore.evaluation.candidates import Candidate, FineTuning
from llmcore.evaluation.kinds import Subject
from llmcore.records import newest_result, run_folder
from llmcore.storage import Folder, Manifest, read_manifest
from llmcore.tasks import task_class, task_from_about
from llmcore.tasks.text_to_text import TextToText

__all__ = ["NamedModel"]


@dataclass(frozen=True)
class NamedModel:
    """One model, by what the configuration calls it; `run` is the fine-tuning that made it, where that is found."""

    name: str
    folder: Folder
    manifest: Manifest
    run: FinetuneConfig | None

    @classmethod
    def find(cls, storage: Folder, name: str, reference: str) -> "NamedModel":
        """The model of a finished `finetune` run, by its name in the storage or its URL, or that at a model's own URL.

        Raises:
            ConfigError: There is no such model, or it was not fine-tuned.
        """
        given = run_folder(storage, reference)
        result = newest_result(given)
        if result is not None and "model" not in result:
            raise ConfigError(
                f"models.{name}={reference!r} is a run that leaves no model; `searches` names `tune` runs"
            )
        folder = given if result is None else given.parent / result["model"]
        manifest = read_manifest(folder)
        if manifest is None:
            raise ConfigError(
                f"models.{name}={reference!r}: there is no complete model at {folder.url}: name a `finetune` run that "
                "has ended, or give the URL of a published model"
            )
        try:
            task_from_about(manifest.about)
        except CheckpointError as error:
            raise ConfigError(f"models.{name}={reference!r}: {error}") from error
        return cls(name, folder, manifest, _fine_tuned(folder.parent, folder))

    def closed(self) -> list[str]:
        """Itself: there is one."""
        return [self.name]

    def candidates(self) -> list[Candidate]:
        """Itself."""
        return [
            Candidate(
                id=self.name,
                what="model",
                status="finished",
                model=self.folder,
                model_sha256=self.manifest.sha256,
                num_steps=self.manifest.about.get("step"),
                seed=None if self.run is None else self.run.train.seed,
            )
        ]

    def task_kind(self) -> str:
        """The kind of its task."""
        return str(self.manifest.about["task"]["kind"])

    def writes(self) -> bool:
        """Whether its task is one whose answers are written."""
        return isinstance(task_from_about(self.manifest.about), TextToText)

    def subject(self) -> Subject:
        """What it was made for: the kind of set, and the classes that it tells apart."""
        task = self.manifest.about["task"]
        kind = task_class(self.task_kind()).set_kind.name
        return Subject(kind, tuple(task.get("label_names", ())), bool(task.get("multi_label")))

    def fine_tuning(self) -> FineTuning | None:
        """That of its run."""
        if self.run is None:
            return None
        settings = FinetuneSettings.model_validate(
            {name: getattr(self.run, name) for name in FinetuneSettings.model_fields}
        )
        return FineTuning(self.folder.parent, settings, self.run.base, self.run.data)


def _fine_tuned(run: Folder, model: Folder) -> FinetuneConfig | None:
    """The configuration of the fine-tuning run whose model this is; None for what was put there by anything else."""
    record, text = run.find_json("run.json"), run.find_bytes("config.yaml")
    if record is None or text is None or record["kind"] != "finetune" or model.name != "model":
        return None
    return FinetuneConfig.model_validate_json(json.dumps(plain_yaml(text)))
