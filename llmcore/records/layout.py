"""Where the records of a run are, and what is recorded of the software that made them."""

import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any

import llmcore
from llmcore.storage import Folder

__all__ = ["ATTEMPTS", "attempt_folder", "attempt_numbers", "folder_of", "software_versions"]

ATTEMPTS = "attempts"
_PACKAGES = ("ray", "torch", "deepspeed", "transformers")


def attempt_folder(run: Folder, number: int) -> Folder:
    """`attempts/NN` of a run."""
    return run / ATTEMPTS / f"{number:02d}"


def attempt_numbers(run: Folder) -> list[int]:
    """Numbers of the run's attempts, in order; none when nothing has begun."""
    return sorted(int(name) for name in (run / ATTEMPTS).names() if name.isdecimal())


def folder_of(ref: Mapping[str, Any]) -> Folder:
    """The attempt's folder from its plain reference (`Attempt.ref()`), in whatever process."""
    return attempt_folder(Folder(ref["run"]), ref["number"])


def software_versions() -> dict[str, str | None]:
    """Versions of Python, of this package and of the libraries that decide results; null for one not installed."""
    return {"python": platform.python_version(), "llmcore": llmcore.__version__} | {
        package: _version(package) for package in _PACKAGES
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
