"""A text made of several columns: `{title}: {body}`, braces as in `str.format`, without formats and conversions."""

from string import Formatter

__all__ = ["check_template", "columns_in", "is_template", "parts_of"]


def is_template(text: str) -> bool:
    """Whether it is more than the name of a column."""
    return "{" in text or "}" in text


def parts_of(template: str) -> list[tuple[str, str | None]]:
    """What stands before each column, and the column; the last may have none. Raises ValueError for an open brace."""
    return [(literal, name) for literal, name, _, _ in Formatter().parse(template)]


def columns_in(text: str) -> list[str]:
    """The columns that a text is made of: those of the template, or the one that is named."""
    if not is_template(text):
        return [text]
    return list(dict.fromkeys(name for _, name in parts_of(text) if name is not None))


def check_template(text: str) -> None:
    """Raises ValueError, naming what is wrong, for a template that cannot be filled."""
    if not is_template(text):
        return
    named = [(name, *rest) for _, name, *rest in Formatter().parse(text) if name is not None]
    if not named or any(not name or any(rest) for name, *rest in named):
        raise ValueError("in a template columns stand as {column}, one at least, without a format or a conversion")
