"""Prompts: a template filled with the columns of rows, and cut so that an answer fits behind it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from llmcore.config.template import parts_of
from llmcore.tasks.base import Reader

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["fitted_prompt", "rendered_prompts"]


def rendered_prompts(template: str, rows: "pa.Table") -> tuple[list[str], str]:
    """Of each row, the template filled up to its last column; and what follows that, the same for all."""
    parts = parts_of(template)
    tail = parts[-1][0] if parts[-1][1] is None else ""
    body = parts[:-1] if parts[-1][1] is None else parts
    columns = {name: rows[name].to_pylist() for _, name in body if name is not None}
    filled: Iterator[str] = (
        "".join(literal + (columns[name][row] or "" if name is not None else "") for literal, name in body)
        for row in range(rows.num_rows)
    )
    return list(filled), tail


def fitted_prompt(
    reader: Reader, body: list[int], tail: list[int], room: int, *, encoded: bool
) -> tuple[list[int], bool]:
    """A prompt in so many tokens, and whether it was cut: at its body's end, since most is told first.

    A text without any prompt begins behind the end of another one, as it does in pre-training.
    """
    frame = [reader.end] if encoded else []
    before = reader.begin if encoded else []
    kept = body[: max(1, room - len(tail) - len(frame) - len(before))]
    return [*before, *kept, *tail, *frame] or [reader.end], len(kept) < len(body)
