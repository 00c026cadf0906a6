"""In which keys configurations differ."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["differing", "flat"]


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Each leaf of a configuration by its dotted key, as text; a list of plain values is one leaf."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        inner = dict(enumerate(value)) if isinstance(value, list) and any(map(_nested, value)) else value
        if isinstance(inner, Mapping) and inner:
            yield from flat({str(key): one for key, one in inner.items()}, f"{name}.")
        else:
            yield name, _told(inner)


def differing(configs: Sequence[Mapping[str, str]], kinds: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Keys whose values are not all the same; then the others, each with its value; in the order of configurations.

    A key that only runs of another kind have is no difference: that they are of another kind says it.
    """
    keys = dict.fromkeys(key for config in configs for key in config)
    apart, same = [], {}
    for key in keys:
        having = {kind for config, kind in zip(configs, kinds, strict=True) if key in config}
        values = {config.get(key) for config, kind in zip(configs, kinds, strict=True) if kind in having}
        if len(values) > 1:
            apart.append(key)
        else:
            same[key] = str(values.pop())
    return apart, same


def _nested(value: Any) -> bool:
    return isinstance(value, Mapping | list)


def _told(value: Any) -> str:
    """As one writes it in YAML; 1.0 is told as 1, since it is the same number."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    return json.dumps(value, ensure_ascii=False, default=str)
