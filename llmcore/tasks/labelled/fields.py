"""The texts that a file has for columns, paths into columns, and templates of both."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmcore.config.template import columns_in, is_template
from llmcore.corpus.formats import as_text
from llmcore.corpus.template import rendered
from llmcore.errors import CorpusError
from llmcore.storage import parsed_json

if TYPE_CHECKING:
    import pyarrow as pa

    from llmcore.tasks.labelled.files import Part

__all__ = ["Texts", "column_of", "texts_of"]

Texts = Mapping[str, str | None]
"""What a row has, by key."""


def column_of(name: str, there: Sequence[str]) -> str | None:
    """The column that a name is, or the one that a path begins with (`instances` of `instances.0.output`)."""
    parts = name.split(".")
    beginnings = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((beginning for beginning in beginnings if beginning in there), None)


def texts_of(
    part: "Part", references: Mapping[str, str], must_be_texts: Sequence[str] = ()
) -> "Iterator[tuple[int, list[Texts]]]":
    """The rows of a part, some thousand at a time: the number of the first, and for each key what its reference says.

    Raises ShardError, and CorpusError where a path leads nowhere; both name the row.
    """
    there = part.columns
    names = list(dict.fromkeys(name for reference in references.values() for name in columns_in(reference)))
    columns = {name: column_of(name, there) or name for name in names}
    first_row = 0
    for table in part.tables(list(dict.fromkeys(columns.values())), must_be_texts):
        taken = table.select([])
        for name, column in columns.items():
            values = table[column]
            if name != column:
                values = _at_path(part.name, first_row, name, name[len(column) + 1 :], values)
            taken = taken.append_column(name, values)
        made = {
            key: rendered(reference, taken) if is_template(reference) else taken[reference].to_pylist()
            for key, reference in references.items()
        }
        yield first_row, [dict(zip(made, row, strict=True)) for row in zip(*made.values(), strict=True)]
        first_row += table.num_rows


def _at_path(part: str, first_row: int, name: str, path: str, values: "pa.ChunkedArray") -> "pa.ChunkedArray":
    import pyarrow as pa

    found: list[str | None] = []
    for number, text in enumerate(values.to_pylist()):
        try:
            value: Any = None if text is None else parsed_json(text)
            for key in path.split("."):
                value = value[int(key)] if isinstance(value, list) else value[key]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise CorpusError(
                f"{part} row {first_row + number}: {name!r} leads nowhere in {text!r:.80}; name a path that all have"
            ) from error
        found.append(as_text(value))
    return pa.chunked_array([found], pa.string())
