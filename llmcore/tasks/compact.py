"""A split's examples as they are kept while a model trains: read a slice of rows at a time, their tokens in arrays.

Lists of Python's numbers take some 33 bytes a token, arrays 5: two hundred thousand conversations of a thousand tokens
are 7 GB or 1 GB, and each rank of a machine has its own.
"""

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llmcore.tasks.base import Features, Reader

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["compact", "compact_features"]

_ROWS_TOGETHER = 1024
"""Rows whose tokens are lists at once, as tokenizers give them."""


def compact_features(make: "Callable[[Reader, pa.Table], Features]", reader: Reader, rows: "pa.Table") -> Features:
    """What a task's `features` or `judged` makes of rows, compact.

    Args:
        make: The task's method; what it makes of a row hangs on no other row.
        reader: How the model reads.
        rows: Of a labelled set, with their ids.
    """
    examples: list[Any] = []
    num_truncated = 0
    for first in range(0, rows.num_rows, _ROWS_TOGETHER):
        made = make(reader, rows.slice(first, _ROWS_TOGETHER))
        examples += map(compact, made.examples)
        num_truncated += made.num_truncated
    return Features(examples, num_truncated)


def compact(example: Any) -> Any:
    """The same example: in named tuples and all that they hold, lists of numbers are int32 arrays, of truths bytes."""
    if isinstance(example, tuple):
        parts = map(compact, example)
        return type(example)._make(parts) if hasattr(example, "_make") else tuple(parts)
    if not isinstance(example, list) or not example:
        return example
    try:
        return bytes(example) if isinstance(example[0], bool) else array("i", example)
    except (TypeError, ValueError, OverflowError):  # a list of anything else
        return example
