"""What a format of shards is."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from llmcore.errors import BadShardError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BATCH_ROWS", "ID", "MAX_CHARACTERS", "Format", "as_text", "check_there", "in_tables"]

BATCH_ROWS = 4096
_BATCH_CHARACTERS = 16_000_000
MAX_CHARACTERS = 128 << 20
"""Of one line, value or file of text: a longer one is no document, and would not fit into a process."""
ID = "id"
"""Read where a shard has it, wanted or not: it names the documents."""


class Format(Protocol):
    """A format of shards: what their names end in, and how their rows are read."""

    suffixes: tuple[str, ...]

    def columns(self, url: str) -> list[str] | None:
        """The columns of a shard; None where it has no row that tells. Raises ShardError."""

    def tables(self, url: str, wanted: Sequence[str], texts: Sequence[str] = ()) -> Iterator["pa.Table"]:
        """The wanted columns and `id`, as text, some thousand rows at a time; `texts` are those that must be text.

        Raises ShardError, naming the row.
        """


def as_text(value: Any) -> str | None:
    """A value as it is written in JSON, a text as itself, null as None: what labels and keys are compared as."""
    return value if value is None or isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)


def check_there(url: str, wanted: Sequence[str], there: Sequence[str]) -> None:
    """Raises BadShardError where a wanted column is missing."""
    if missing := [name for name in wanted if name not in there]:
        raise BadShardError(f"{url}: has no columns {missing}, only {list(there)}; name those that are there")


def in_tables(rows: Iterable[tuple[Mapping[str, str | None], int]], wanted: Sequence[str]) -> Iterator["pa.Table"]:
    """Rows, each with the number of its characters, as tables that are bounded in both."""
    import pyarrow as pa

    schema = pa.schema([(name, pa.string()) for name in dict.fromkeys([*wanted, ID])])
    held: list[Mapping[str, str | None]] = []
    num_characters = 0
    for row, size in rows:
        held.append(row)
        num_characters += size
        if len(held) >= BATCH_ROWS or num_characters >= _BATCH_CHARACTERS:
            yield pa.Table.from_pylist(held, schema)
            held, num_characters = [], 0
    if held:
        yield pa.Table.from_pylist(held, schema)
