"""Tasks: what is learnt from labelled data."""

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from llmcore.config.task import KINDS, TaskSettings
from llmcore.errors import CheckpointError, ConfigError
from llmcore.tasks.base import SetFacts, Task

if TYPE_CHECKING:
    from llmcore.tasks.evaluation_set import EvaluationSet

__all__ = ["build_task", "facts_of", "task_class", "task_from_about"]

_GROUP = "llmcore.tasks"
_CLASSES = {
    "text_classification": "llmcore.tasks.text_classification:TextClassification",
    "question_answering": "llmcore.tasks.question_answering:QuestionAnswering",
    "translation": "llmcore.tasks.translation:Translation",
    "summarization": "llmcore.tasks.summarization:Summarization",
    "chat": "llmcore.tasks.chat:Chat",
    "code_generation": "llmcore.tasks.code_generation:CodeGeneration",
    "text_generation": "llmcore.tasks.text_generation:TextGeneration",
}
_WRITTEN = {"text_classification": "llmcore.tasks.label_writing:LabelWriting"}
"""Kinds that have a head, and can be answered by writing as well."""
assert tuple(_CLASSES) == KINDS


def task_class(kind: str, answer: str | None = None) -> type[Task[Any, Any]]:
    """The class of a kind: one of the package's, an entry point's, or `module:Class`.

    Where the `answer` is `text`, it is that which writes what another answers by a head.

    Raises:
        ConfigError: There is none, or it is no task.
    """
    classes = _WRITTEN if answer == "text" and kind in _WRITTEN else _CLASSES
    place = classes.get(kind) or next((point.value for point in entry_points(group=_GROUP, name=kind)), kind)
    module, colon, name = place.partition(":")
    if not colon:
        raise ConfigError(
            f"task.kind={kind!r} is no task: give one of {', '.join(KINDS)}, an entry point in the group {_GROUP}, or "
            "your own class as `module:Class`"
        )
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"task.kind={kind!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise ConfigError(f"task.kind={kind!r} is no class made of llmcore.tasks.base.Task")
    return found


def facts_of(data: "EvaluationSet") -> SetFacts:
    """What a task is told of a labelled set."""
    names, labels = tuple(data.label_names), data.report.get("train", {}).get("labels", {})
    counts = tuple(labels.get(name, 0) for name in names)
    return SetFacts(names, counts, "labels" in data.columns, tuple(data.columns))


def build_task(settings: TaskSettings, data: SetFacts) -> Task[Any, Any]:
    """The task of a configuration, for a labelled set.

    Raises:
        ConfigError: There is no such task, or the settings do not fit it.
    """
    return task_class(settings.kind, settings.answer).of_settings(settings, data)


def task_from_about(about: Mapping[str, Any]) -> Task[Any, Any]:
    """The task that a model was made for, from the `about` of its folder's manifest.

    Raises:
        CheckpointError: The manifest names no task that can be found.
    """
    match about.get("task"):
        case {"kind": str(kind), **fields}:
            try:
                return task_class(kind, str(fields.get("answer"))).from_fields(fields)
            except (ConfigError, TypeError) as error:
                raise CheckpointError(f"the model's manifest names the task {kind!r}: {error}") from error
        case other:
            raise CheckpointError(f"the model's manifest names the task {other!r}: it was not fine-tuned here")
