"""How a rendered file is written."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from llmcore.config.document import dump_yaml

__all__ = ["as_yaml", "ray_version"]


def as_yaml(told: str, *documents: Mapping[str, Any]) -> str:
    """YAML documents one after the other, under a line that says where they come from."""
    return f"# {told}\n" + "---\n".join(dump_yaml(document) for document in documents)


def ray_version() -> str:
    """The version of Ray that this package is pinned to: nodes, drivers and clients must have the same."""
    return version("ray")
