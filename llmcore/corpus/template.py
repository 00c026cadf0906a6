"""Documents whose text is made of several columns."""

from typing import TYPE_CHECKING

from llmcore.config.template import parts_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["rendered"]


def rendered(template: str, columns: "pa.Table") -> list[str | None]:
    """The text of each row; a value that is null is left out, and a row of nulls alone is null."""
    parts = parts_of(template)
    values = {name: columns[name].to_pylist() for _, name in parts if name is not None}
    texts: list[str | None] = []
    for row in range(columns.num_rows):
        if all(column[row] is None for column in values.values()):
            texts.append(None)
        else:
            filled = ((literal, values[name][row] if name is not None else None) for literal, name in parts)
            texts.append("".join(literal + (value or "") for literal, value in filled))
    return texts
