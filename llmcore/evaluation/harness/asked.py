"""What lm-evaluation-harness is to ask, checked before any model is loaded."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llmcore.config.harness import HarnessSettings
from llmcore.errors import ConfigError
from llmcore.storage import content_hash, folder_at
from llmcore.storage.content import chunks

__all__ = ["Harness", "installed_version", "own_files_hash", "own_path", "task_manager"]

_VERSION = 1
"""Raised when the same answers of the harness would be kept in another way."""


@dataclass(frozen=True)
class Harness:
    """Its settings, and what else an answer depends on but the model.

    Attributes:
        settings: The configuration's.
        num_resamples: Bootstrap resamples of a standard error, where the harness has no formula for it.
        version: Of the package `lm_eval`.
        own_files: Hash of all files below `include_path`; None without one.
    """

    settings: HarnessSettings
    num_resamples: int
    version: str
    own_files: str | None

    @classmethod
    def of(cls, settings: HarnessSettings, num_resamples: int) -> "Harness":
        """That of a configuration. Raises ConfigError where it is not installed, or has no such task."""
        installed = installed_version()
        _check_tasks(settings)
        return cls(settings, num_resamples, installed, own_files_hash(settings))

    def hash(self, task: str) -> str:
        """Of what is asked by one task: with the model's, the name of what is kept."""
        return content_hash(
            "harness",
            _VERSION,
            task,
            self.settings.num_fewshot,
            self.settings.limit,
            self.settings.chat_template,
            self.num_resamples,
            self.version,
            self.own_files,
        )


def installed_version() -> str:
    """Of the package. Raises ConfigError where there is none."""
    if find_spec("lm_eval") is None:
        raise ConfigError(
            "harness needs lm-evaluation-harness: install the extra, `pip install 'llmcore[lm-eval]'`, on every node"
        )
    return version("lm_eval")


def own_path(settings: HarnessSettings) -> Path | None:
    """The folder of task files of one's own. Raises ConfigError where there is none that can be read as a path."""
    if settings.include_path is None:
        return None
    path = folder_at(settings.include_path).local_path()
    if path is None or not path.is_dir():
        raise ConfigError(
            f"harness.include_path={settings.include_path!r} is no folder on a disk: give one that all nodes see"
        )
    return path


def own_files_hash(settings: HarnessSettings) -> str | None:
    """SHA-256 of the names and bytes of all files of one's own; None where there are none. Raises ConfigError."""
    path = own_path(settings)
    if path is None:
        return None
    digests = {}
    for file in sorted(path.rglob("*")):
        if file.is_file():
            digest = hashlib.sha256()
            with file.open("rb") as opened:
                for chunk in chunks(opened):
                    digest.update(chunk)
            digests[file.relative_to(path).as_posix()] = digest.hexdigest()
    return content_hash(digests)


def task_manager(settings: HarnessSettings) -> tuple[Any, Sequence[str]]:
    """What knows all tasks that are named, and the names that are none.

    Listing the harness' own, some 14,000, takes seconds: where all are one's own, that is left out.
    """
    from lm_eval.tasks import TaskManager

    path = own_path(settings)
    if path is not None:
        manager = TaskManager(include_path=str(path), include_defaults=False)
        if set(settings.tasks) <= set(manager.all_tasks):
            return manager, []
    manager = TaskManager(include_path=None if path is None else str(path))
    return manager, [name for name in settings.tasks if name not in manager.all_tasks]


def _check_tasks(settings: HarnessSettings) -> None:
    manager, unknown = task_manager(settings)
    if unknown:
        near = get_close_matches(unknown[0], manager.all_tasks, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "`lm-eval ls tasks` lists them"
        raise ConfigError(f"harness.tasks: lm-evaluation-harness {installed_version()} has no {unknown[0]!r}: {hint}")
