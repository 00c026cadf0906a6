"""On which nodes the parts of a job run: `cluster.place`, known to all processes of the job by their environment."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from llmcore.config.common import ClusterSettings
from llmcore.config.place import PART, Part
from llmcore.errors import ConfigError

__all__ = [
    "check_labels",
    "given",
    "labels_of_nodes",
    "matches",
    "place_environment",
    "placed",
    "selector_of",
    "told_labels",
    "why_nowhere",
]

_NAME = "LLMCORE_PLACE"
_SEVERAL = re.compile(r"in\((.*)\)")


def place_environment(settings: ClusterSettings) -> dict[str, str]:
    """What the processes of a job need in their environment, to place what they start; nothing if anywhere."""
    told = settings.model_dump(mode="json", include={"place", "autoscaling"}, exclude_defaults=True)
    return {_NAME: json.dumps(told)} if told else {}


def given() -> ClusterSettings:
    """`place` and `autoscaling` of the job that this process belongs to; all else is as it is by default."""
    return ClusterSettings.model_validate_json(os.environ.get(_NAME) or "{}")


def selector_of(part: Part) -> dict[str, str]:
    """The labels that nodes must have for a part of this process' job; none where it runs anywhere."""
    return dict(getattr(given().place, part))


def placed(part: Part) -> dict[str, Any]:
    """What a task or an actor of a part is given beside its other options in Ray."""
    selector = selector_of(part)
    return {"label_selector": selector} if selector else {}


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a node with the labels is one that the selector means, as Ray decides it.

    A label that a node has not is no value: `!spot` holds then, `spot` does not.
    """
    return all(_fits(wanted, labels.get(name)) for name, wanted in selector.items())


def _fits(wanted: str, value: str | None) -> bool:
    plain = wanted.removeprefix("!")
    several = _SEVERAL.fullmatch(plain)
    values = [one.strip() for one in several[1].split(",")] if several else [plain]
    return (value in values) != wanted.startswith("!")


def told_labels(selector: Mapping[str, str]) -> str:
    """A selector, for people."""
    return ", ".join(f"{name}={wanted}" for name, wanted in selector.items())


def why_nowhere(settings: ClusterSettings, labels: Sequence[Mapping[str, str]]) -> str | None:
    """Which part of a job has no node among those with such labels, and what labels there are; None where all have."""
    for part in PART:
        selector = getattr(settings.place, part)
        if selector and not any(matches(selector, has) for has in labels):
            there = sorted({f"{name}={has[name]}" for has in labels for name in has if not name.endswith("/node-id")})
            return (
                f"cluster.place.{part}: no node has {told_labels(selector)}; the labels that there are: "
                f"{', '.join(there) or 'none'}. Start nodes with them (`ray start --labels=…`), or name others"
            )
    return None


def labels_of_nodes() -> list[dict[str, str]]:
    """The labels of each living node of the connected cluster, in the order of `cluster_nodes`."""
    import ray

    return [dict(node["Labels"]) for node in ray.nodes() if node["Alive"]]


def check_labels(settings: ClusterSettings) -> None:
    """Raises ConfigError where a part of the job has no node in the connected cluster, and none can come."""
    if settings.place == type(settings.place)() or settings.autoscaling:
        return
    if reason := why_nowhere(settings, labels_of_nodes()):
        raise ConfigError(reason)
