"""Tasks: what is learnt from labelled data."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmcore.config.finetune import TaskSettings
from llmcore.errors import CheckpointError
from llmcore.tasks.base import Task
from llmcore.tasks.text_classification import TextClassification

__all__ = ["build_task", "task_from_about"]


def build_task(settings: TaskSettings, label_names: Sequence[str]) -> Task:
    """The task of a configuration, for a labelled set with these classes.

    Raises:
        ConfigError: The settings do not fit the kind of task.
    """
    return TextClassification(tuple(label_names), settings.max_tokens, settings.validation_metric)


def task_from_about(about: Mapping[str, Any]) -> Task:
    """The task that a model was made for, from the `about` of its folder's manifest.

    Raises:
        CheckpointError: The manifest names no task that this package knows.
    """
    match about.get("task"):
        case {"kind": "text_classification", "label_names": names, "max_tokens": int(length), **rest}:
            return TextClassification(tuple(names), length, str(rest.get("validation_metric", "macro_f1")))
        case other:
            raise CheckpointError(f"the model's manifest names the task {other!r}; known is text_classification")
