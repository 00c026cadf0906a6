"""Batches made ahead of time, in a thread."""

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

__all__ = ["prefetched"]

T = TypeVar("T")
_DEPTH = 4


def prefetched(items: Iterator[T], depth: int = _DEPTH) -> Iterator[T]:
    """The same items in the same order, up to `depth` of them made while the caller is busy; starts at once.

    What the source raises is raised where the item would have come.
    """
    ahead: queue.Queue[tuple[str, object]] = queue.Queue(maxsize=depth)

    def fill() -> None:
        try:
            for item in items:
                ahead.put(("item", item))
            ahead.put(("end", None))
        except BaseException as error:
            ahead.put(("error", error))

    threading.Thread(target=fill, daemon=True, name="prefetch").start()

    def drain() -> Iterator[T]:
        while True:
            kind, value = ahead.get()
            if kind == "end":
                return
            if kind == "error":
                assert isinstance(value, BaseException)
                raise value
            yield value  # type: ignore[misc]

    return drain()
