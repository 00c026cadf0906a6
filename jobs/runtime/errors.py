"""Errors of ours that come through Ray, as themselves."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayTaskError

from jobs.runtime.endings import own_error

__all__ = ["fetch", "our_errors"]


@contextmanager
def our_errors() -> Iterator[None]:
    """An error of ours that a task raised is raised as itself, and not as Ray's account of it, however deep it lies."""
    try:
        yield
    except RayTaskError as error:
        own = own_error(error)
        if own is not None:
            raise own from error
        raise


def fetch(reference: Any) -> Any:
    """What a task returned; an error of ours that it raised, as itself and not as Ray's account of it."""
    with our_errors():
        return ray.get(reference)
