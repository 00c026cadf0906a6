"""Whether what is installed on a node is what the code that travelled there was tried with."""

import importlib.metadata
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from llmcore.errors import ConfigError

__all__ = ["check_pinned", "differing", "to_install"]

_PIN = re.compile(r"^([\w.-]+)==(\S+)$")
_NOT_FOR_JOBS = "dev"


def check_pinned(folder: Path) -> None:
    """Raise ConfigError where versions differ from those of the folder's `constraints.txt`; nothing without that file.

    Held against it is what the code asks for itself (`pyproject.toml`), and of its extras what is installed. A local
    part as in `2.13.0+cpu` is another build of the same version.
    """
    if not (folder / "constraints.txt").is_file() or not (folder / "pyproject.toml").is_file():
        return
    found = list(differing(folder))
    if found:
        raise ConfigError(
            f"this node has other packages than constraints.txt: {', '.join(found)}. Submit with --install, or use an "
            "image made from the same constraints.txt, or write the versions of the cluster into it and try them first"
        )


def differing(folder: Path) -> Iterator[str]:
    """What is installed in another version than the folder's files say, or is missing, in words."""
    pins = _pins(folder)
    needed, optional = _asked(folder)
    for name in sorted((needed | optional) & pins.keys()):
        installed = _installed(name)
        if installed is None and name in needed:
            yield f"{name} is missing ({pins[name]})"
        elif installed is not None and _public(installed) != _public(pins[name]):
            yield f"{name} {installed} ({pins[name]})"


def to_install(folder: Path) -> list[str]:
    """`name==version` of what the code asks for, and of those extras that are installed here."""
    pins = _pins(folder)
    needed, optional = _asked(folder)
    wanted = needed | {name for name in optional if _installed(name) is not None}
    return [f"{name}=={pins[name]}" for name in sorted(wanted & pins.keys())]


def _asked(folder: Path) -> tuple[set[str], set[str]]:
    """The packages that the code asks for, and those of its extras."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project.get("optional-dependencies", {})
    optional = {_normal(one) for extra, asked in extras.items() if extra != _NOT_FOR_JOBS for one in asked}
    return {_normal(one) for one in project["dependencies"]}, optional


def _pins(folder: Path) -> dict[str, str]:
    """Versions by package; names are in lower case with dashes."""
    lines = (folder / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {_normal(found[1]): found[2] for line in lines if (found := _PIN.match(line.strip()))}


def _normal(requirement: str) -> str:
    """The package that a requirement names."""
    return re.split(r"[\[<>=~!; ]", requirement)[0].lower().replace("_", "-")


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _public(version: str) -> str:
    return version.partition("+")[0]
