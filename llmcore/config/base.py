"""The ground of all configuration: closed sections, and what a change of a field means."""

from collections.abc import Callable, Iterator
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

__all__ = [
    "A_SECTION",
    "A_TEXT",
    "Change",
    "Nested",
    "Section",
    "change_of",
    "flagged",
    "free",
    "identity",
    "nested_in",
]

Change = Literal["identity", "flagged", "free"]
"""What another value means. identity: another run. flagged: allowed on an existing run with `--allow-changes`. free:
nothing, at any time."""

A_TEXT, A_SECTION = "<text>", "<section>"
"""Tags of the two ways to give what may be a name or a section; they stand in no message."""


class Section(BaseModel):
    """A closed, immutable part of a configuration: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, validate_default=True, allow_inf_nan=False)

    def mistakes(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What is wrong although each field is as it must be: where, and what is to be said of it."""
        return iter(())


class Nested(NamedTuple):
    """The section that a field holds: itself, or as the items of a list, or as the values of a mapping."""

    section: type[Section]
    container: Literal["section", "list", "mapping"]


def nested_in(annotation: Any) -> Nested | None:
    """The section inside a field's annotation; None where it holds plain values alone."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return Nested(annotation, "section")
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return next((found for found in map(nested_in, arguments) if found), None)
    if origin is Annotated:
        return nested_in(arguments[0])
    if origin in (list, tuple, dict) and arguments:
        found = nested_in(arguments[1] if origin is dict else arguments[0])
        return found and Nested(found.section, "mapping" if origin is dict else "list")
    return None


def change_of(field: FieldInfo) -> Change:
    """What another value of this field means for an existing run."""
    extra = field.json_schema_extra
    if not isinstance(extra, dict) or extra.get("change") not in get_args(Change):
        raise TypeError(f"{field!r} says nothing of changes: make it with identity(), flagged() or free()")
    return extra["change"]  # type: ignore[return-value]  # checked in the line above


def _setting(change: Change) -> Callable[..., Any]:
    def setting(default: Any = ..., *, description: str, **rules: Any) -> Any:
        if isinstance(default, type | list | dict) or (callable(default) and not isinstance(default, BaseModel)):
            factory = default if callable(default) else default.copy
            return Field(
                default_factory=factory, description=description, json_schema_extra={"change": change}, **rules
            )
        return Field(default, description=description, json_schema_extra={"change": change}, **rules)

    return setting


identity = _setting("identity")
flagged = _setting("flagged")
free = _setting("free")
