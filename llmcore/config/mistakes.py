"""Words for what is wrong in a configuration: what was given, what is expected, the nearest right key."""

import json
import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any

from pydantic_core import ErrorDetails

from llmcore.config.base import A_SECTION, A_TEXT, Section, nested_in
from llmcore.config.document import Path, dotted

__all__ = ["Mistake", "describe", "nearest_key", "value_at"]

Mistake = tuple[Path, str]
"""Where it is, and what is to be said of it."""

_CLOSE_ENOUGH = 0.65
_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "int_from_float": "an integer",
    "int_type": "an integer",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "list_type": "a list",
    "literal_error": "{expected}",
    "model_type": "a section of keys",
    "none_required": "null",
    "string_pattern_mismatch": "a text that matches {pattern}",
    "string_type": "a text",
    "too_long": "{max_length} items or fewer",
    "too_short": "{min_length} items or more",
    "tuple_type": "a list",
}


def describe(cls: type[Section], data: Any, errors: Sequence[ErrorDetails], prefix: Path = ()) -> list[Mistake]:
    """Pydantic's errors as mistakes; those of one value's alternative types are one mistake.

    Where the section is a part of a larger one, `prefix` is its place there, for the words.
    """
    expected: dict[Path, list[str]] = {}
    mistakes: list[Mistake] = []
    for error in errors:
        location = tuple(part for part in error["loc"] if part not in (A_TEXT, A_SECTION))
        path = _path_in(data, location)
        match error["type"]:
            case "extra_forbidden":
                mistakes.append((path, _unknown_key(cls, path, prefix)))
            case "missing":
                place = (*path, *location[len(path) :])
                mistakes.append((place, f"missing; expected {_what_belongs_at(cls, place)}"))
            case "value_error":
                message = error["msg"].removeprefix("Value error, ")
                mistakes.append((_key_named_in(message, error["input"], path), message))
            case _:
                expected.setdefault(path, []).append(_expectation(error))
    for path, wanted in expected.items():
        alternatives = " or ".join(dict.fromkeys(wanted))
        mistakes.append((path, f"got {_shown(value_at(data, path))}; expected {alternatives}"))
    return mistakes


def nearest_key(cls: type[Section], path: Path) -> Path | None:
    """The known key most likely meant by an unknown one: the same word elsewhere, or a like word, nearby first."""
    *parent, wrong = path
    best: tuple[float, Path] | None = None
    for place in _keys(cls, tuple(parent)):
        likeness = SequenceMatcher(None, str(wrong), str(place[-1])).ratio()
        if likeness < _CLOSE_ENOUGH:
            continue
        shared = next((i for i, (a, b) in enumerate(zip(parent, place, strict=False)) if a != b), len(parent))
        distance = (len(parent) - shared) + (len(place) - 1 - shared)
        score = likeness - 0.1 * distance + (0.5 if likeness == 1 else 0)
        if best is None or score > best[0]:
            best = (score, place)
    return best and best[1]


def value_at(data: Any, path: Path) -> Any:
    """The plain value at a path that exists."""
    for part in path:
        data = data[part]
    return data


def _keys(cls: type[Section], near: Path, path: Path = ()) -> Iterator[Path]:
    """All keys of a section and of those in it; of lists and mappings of sections only the item that `near` is in."""
    for name, field in cls.model_fields.items():
        place = (*path, name)
        yield place
        nested = nested_in(field.annotation)
        if nested and nested.container == "section":
            yield from _keys(nested.section, near, place)
        elif nested and near[: len(place)] == place and len(near) > len(place):
            yield from _keys(nested.section, near, (*place, near[len(place)]))


def _path_in(data: Any, loc: tuple[int | str, ...]) -> Path:
    """The part of pydantic's location that is in the data: it adds names of alternative types to it."""
    for depth, part in enumerate(loc):
        found = isinstance(part, str) and isinstance(data, dict) and part in data
        found = found or (isinstance(part, int) and isinstance(data, list) and part < len(data))
        if not found:
            return loc[:depth]
        data = data[part]
    return loc


def _section_at(cls: type[Section], path: Path) -> type[Section] | None:
    parts = list(path)
    while parts:
        field = cls.model_fields.get(str(parts.pop(0)))
        nested = field and nested_in(field.annotation)
        if not nested:
            return None
        if nested.container != "section" and parts:
            parts.pop(0)
        cls = nested.section
    return cls


def _unknown_key(cls: type[Section], path: Path, prefix: Path) -> str:
    near = nearest_key(cls, path)
    section = _section_at(cls, path[:-1])
    names = ", ".join(section.model_fields) if section else "keys of the reference page"
    hint = f"; did you mean {dotted((*prefix, *near))}?" if near else ""
    return f"got an unknown key; expected one of {names}{hint}"


def _what_belongs_at(cls: type[Section], path: Path) -> str:
    section = _section_at(cls, path[:-1])
    field = section.model_fields.get(str(path[-1])) if section else None
    return f"a value: {field.description}" if field and field.description else "a value"


def _key_named_in(message: str, section: Any, path: Path) -> Path:
    """Rules over several keys begin with the one to look at: `labelled_set='x' is not …`."""
    named = re.match(r"(\w+)=", message)
    return (*path, named[1]) if named and isinstance(section, dict) and named[1] in section else path


def _expectation(error: ErrorDetails) -> str:
    template = _EXPECTED.get(error["type"])
    if template is None:
        return error["msg"][:1].lower() + error["msg"][1:]
    return template.format(**error.get("ctx", {}))


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}…"
