"""The one door for configuration: YAML, then overrides, then one closed model, and all mistakes at once.

An override is `dotted.key=value`; the value is read as YAML (`train.optimizer.learning_rate=6e-4`,
`evaluate.metrics=[accuracy]`, `train.num_steps=null`) and replaces what stood there. Items of a list go by their
number (`prepare.sources.0.max_documents=100`). Keys that hold dots themselves, as those of `tune.space` do, are found
because at each mapping the longest run of parts that is a key there is taken as that key:
`tune.space.train.optimizer.learning_rate.log_uniform=[1e-4,1e-2]` changes the entry `train.optimizer.learning_rate` if
it is there. A new entry with dots in its key is given as a mapping: `tune.space={train.seed: {choice: [0, 1]}}`.
"""

import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path as FilePath
from typing import Any, TypeVar

from pydantic import ValidationError

from llmcore.config.base import Section
from llmcore.config.credentials import credentials_in
from llmcore.config.document import Document, Path, dotted, dump_yaml, read_yaml
from llmcore.config.mistakes import describe
from llmcore.errors import ConfigError

__all__ = ["dump_config", "load_config", "load_settings", "validate_data"]

AnySection = TypeVar("AnySection", bound=Section)


def load_config(cls: type[AnySection], path: str | PathLike[str], overrides: Sequence[str] = ()) -> AnySection:
    """Read and validate a configuration file; overrides are `dotted.key=value`.

    Raises ConfigError with a line for every mistake: `file:line: key: got VALUE; expected WHAT; did you mean KEY?`,
    or `command line: key=value: …` for what an override brought.
    """
    return _load(cls, _Source(FilePath(path), _read(FilePath(path))), overrides)


def top_level_keys(path: str | PathLike[str]) -> set[str]:
    """The keys of a configuration file, none where it is not one. Raises ConfigError where it cannot be read."""
    data = _Source(FilePath(path), _read(FilePath(path))).data
    return set(map(str, data)) if isinstance(data, dict) else set()


def load_settings(cls: type[AnySection], overrides: Sequence[str]) -> AnySection:
    """The same without a file: what is not overridden stays as it is by default. Raises ConfigError."""
    return _load(cls, _Source(FilePath("defaults"), Document({}, {(): 1})), overrides)


def _load(cls: type[AnySection], source: "_Source", overrides: Sequence[str]) -> AnySection:
    for number, override in enumerate(overrides):
        source.apply(number, override)
    if not source.unreadable:
        for place, message in credentials_in(source.data):
            source.add(place, message)
        try:
            config = validate_data(cls, source.data)
        except ValidationError as error:
            for place, message in describe(cls, source.data, error.errors(include_url=False)):
                source.add(place, message)
        else:
            for place, message in config.mistakes():
                source.add(place, message)
            if not source.mistakes:
                return config
    lines = [line for _, line in sorted(source.mistakes, key=lambda mistake: mistake[0])]
    heading = [f"{len(lines)} mistakes in the configuration:"] if len(lines) > 1 else []
    raise ConfigError("\n".join(heading + lines))


def validate_data(cls: type[AnySection], data: Any) -> AnySection:
    """A section of plain data. Raises pydantic's ValidationError.

    Strict, and through JSON: "4" is no number and true is not 1, while a JSON list is a tuple.
    """
    return cls.model_validate_json(json.dumps(data), strict=True)


def dump_config(config: Section) -> str:
    """The configuration as resolved, as YAML that `load_config` reads back to an equal one."""
    return dump_yaml(config.model_dump(mode="json"))


def _read(path: FilePath) -> Document:
    try:
        return read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; give the path of a YAML file, as those under configs/") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the path of a YAML file") from None


class _Source:
    """The data to validate, where each part of it comes from, and the mistakes so far."""

    def __init__(self, path: FilePath, document: Document) -> None:
        self.mistakes: list[tuple[tuple[int, int], str]] = []  # ((file, then command line; line or number), line)
        self._path = path
        self._lines = document.lines
        self._given: dict[Path, tuple[int, str]] = {}  # what overrides brought: their number and text
        self.data: dict[str, Any] = {}
        self.unreadable = bool(document.mistakes) and document.data is None
        for line, message in document.mistakes:
            self._add_in_file(line, message)
        if self.unreadable:
            return
        if isinstance(document.data, dict):
            self.data = document.data
        else:
            self.unreadable = True
            found = "an empty file" if document.data is None else f"a {type(document.data).__name__}"
            self._add_in_file(1, f"got {found}; expected a mapping of keys, as in the files under configs/")

    def apply(self, number: int, override: str) -> None:
        """Put the value of `dotted.key=value` in its place."""
        name, equals, text = override.partition("=")
        value = read_yaml(text)
        if not equals or not all(name.split(".")):
            self._add_on_command_line(number, override, "expected dotted.key=value")
        elif value.mistakes:
            for _, message in value.mistakes:
                self._add_on_command_line(number, override, message)
        elif not self.unreadable:
            reason = self._put(name.split("."), value.data, (number, override))
            if reason:
                self._add_on_command_line(number, override, reason)

    def add(self, place: Path, message: str) -> None:
        """Note what is wrong at a place, naming the override or the line that it comes from."""
        for depth in range(len(place), 0, -1):
            if place[:depth] in self._given:
                number, override = self._given[place[:depth]]
                inner = "" if override.startswith(f"{dotted(place)}=") else f"{dotted(place)}: "
                return self._add_on_command_line(number, override, f"{inner}{message}")
        line = next((self._lines[place[:d]] for d in range(len(place), -1, -1) if place[:d] in self._lines), 1)
        return self._add_in_file(line, f"{dotted(place)}: {message}" if place else message)

    def _add_in_file(self, line: int, message: str) -> None:
        self.mistakes.append(((0, line), f"{self._path}:{line}: {message}"))

    def _add_on_command_line(self, number: int, override: str, message: str) -> None:
        self.mistakes.append(((1, number), f"command line: {override}: {message}"))

    def _put(self, parts: list[str], value: Any, given: tuple[int, str]) -> str | None:
        """Set the value and note who gave it; the reason why it cannot stand there, if so."""
        container: Any = self.data
        place: Path = ()
        while True:
            key, parts = _split_key(container, parts)
            if key is None:
                return f"{dotted(place)} has the items 0 to {len(container) - 1}; expected one of these numbers"
            place = (*place, key)
            if not parts:
                container[key] = value
                kept = {other: giver for other, giver in self._given.items() if other[: len(place)] != place}
                self._given = {**kept, place: given}
                return None
            if isinstance(container, dict) and container.get(key) is None:
                container[key] = {}  # absent, or a section's key with nothing under it
                self._given[place] = given
            container = container[key]
            if not isinstance(container, dict | list):
                return f"{dotted(place)} is {json.dumps(container)}; expected a section there"


def _split_key(container: dict[str, Any] | list[Any], parts: list[str]) -> tuple[str | int | None, list[str]]:
    """The key or index that the first parts name, and the parts left; None where a list has no such item."""
    if isinstance(container, list):
        index = int(parts[0]) if parts[0].isdecimal() else len(container)
        return (index if index < len(container) else None), parts[1:]
    length = next((n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in container), 1)
    return ".".join(parts[:length]), parts[length:]
