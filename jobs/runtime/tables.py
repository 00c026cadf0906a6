"""Tables as text."""

from collections.abc import Collection, Sequence

__all__ = ["aligned"]


def aligned(rows: Sequence[Sequence[str]], numbers: Collection[str]) -> list[str]:
    """Lines of columns as wide as they must be; those whose heading, in the first row, is among `numbers` to the right.

    Nothing stands after the last cell of a line.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if heading in numbers else cell.ljust(width)
            for cell, width, heading in zip(row, widths, rows[0], strict=True)
        ).rstrip()
        for row in rows
    ]
