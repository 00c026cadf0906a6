"""The ground of all configuration: closed sections, and what a change of a field means."""

from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Change", "Section", "flagged", "free", "identity"]

Change = Literal["identity", "flagged", "free"]
"""identity: another value is another run. flagged: allowed on an existing run with `--allow-changes`. free: any time."""


class Section(BaseModel):
    """A closed, immutable part of a configuration: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, validate_default=True)


def _setting(change: Change) -> Callable[..., Any]:
    def setting(default: Any = ..., *, description: str, **rules: Any) -> Any:
        if isinstance(default, type | list | dict) or (callable(default) and not isinstance(default, BaseModel)):
            factory = default if callable(default) else lambda: default
            return Field(
                default_factory=factory, description=description, json_schema_extra={"change": change}, **rules
            )
        return Field(default, description=description, json_schema_extra={"change": change}, **rules)

    return setting


identity = _setting("identity")
flagged = _setting("flagged")
free = _setting("free")
