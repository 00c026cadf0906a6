"""Tasks and actors of a job, each on a node of the kind that `cluster.place` names for its part."""

from collections.abc import Callable
from typing import Any

import ray

from cluster.placement import placed

__all__ = ["data_task"]


def data_task(function: Callable[..., Any], **options: Any) -> Any:
    """A remote function that works on data, or an actor's class, where data is worked on; `options` are Ray's."""
    return ray.remote(function).options(**options, **placed("data"))
