"""What a configuration says about a run's identity: by the annotation of each field, never by its name."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from llmcore.config.base import Change, Section, change_of, nested_in
from llmcore.config.common import JobSettings

__all__ = ["differences", "fingerprint", "flagged_of", "identity_of"]

_FROM_STRICT_TO_LOOSE = get_args(Change)
_ABSENT = object()


def identity_of(config: Section) -> dict[str, Any]:
    """The fields of which another value is another run, nested as in the configuration, as plain JSON.

    The run's own name is not among them: it says where the run is kept, and its folder has it.
    """
    return _part(config, "identity")


def flagged_of(config: Section) -> dict[str, Any]:
    """The fields that may change on an existing run with `--allow-changes`, nested, as plain JSON."""
    return _part(config, "flagged")


def fingerprint(config: Section, inputs: Mapping[str, str], step_version: int) -> str:
    """SHA-256 (hex) of what determines a run's result: identity, content hashes of inputs, version of the step."""
    content = {"identity": identity_of(config), "inputs": dict(inputs), "step_version": step_version}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two identities, a line for each key: `train.seed: 0 -> 1`."""
    return [f"{key}: {_shown(before)} -> {_shown(after)}" for key, before, after in _changed("", old, new)]


def _part(config: Section, wanted: Change) -> dict[str, Any]:
    data = config.model_dump(mode="json")
    if isinstance(config, JobSettings):
        del data["name"]
    return _pick(type(config), data, wanted, "identity")


def _pick(cls: type[Section], data: Mapping[str, Any], wanted: Change, around: Change) -> dict[str, Any]:
    """The wanted fields of a section; under a looser field around it, no field is stricter than that."""
    picked: dict[str, Any] = {}
    for name, value in data.items():
        field = cls.model_fields[name]
        change: Change = max(around, change_of(field), key=_FROM_STRICT_TO_LOOSE.index)
        nested = nested_in(field.annotation)
        if nested is None or value is None or isinstance(value, str):  # a text may stand in place of a section
            if change == wanted:
                picked[name] = value
        elif nested.container == "section":
            if inner := _pick(nested.section, value, wanted, change):
                picked[name] = inner
        else:
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            items = {key: _pick(nested.section, item, wanted, change) for key, item in pairs}
            # That there are so many items, and under these keys, is itself the field's value.
            if change == wanted or any(items.values()):
                picked[name] = items if isinstance(value, dict) else list(items.values())
    return picked


def _changed(place: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            inner = f"{place}.{key}" if place else str(key)
            yield from _changed(inner, old.get(key, _ABSENT), new.get(key, _ABSENT))
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _changed(f"{place}.{index}", before, after)
    elif old != new or isinstance(old, bool) != isinstance(new, bool):  # 1 == 1.0 is no change, 1 == True is one
        yield place, old, new


def _shown(value: Any) -> str:
    return "(absent)" if value is _ABSENT else json.dumps(value, ensure_ascii=False)
