"""The formats that shards of a corpus may have."""

from llmcore.config.prepare import ShardFormat, TextUnit
from llmcore.corpus.formats.base import Format, as_text
from llmcore.corpus.formats.columnar import Arrow, Parquet
from llmcore.corpus.formats.records import CSV, JSONLines
from llmcore.corpus.formats.text import Text

__all__ = ["FORMATS", "Format", "as_text", "format_of", "suffixes_of"]

FORMATS: dict[ShardFormat, Format] = {"parquet": Parquet(), "arrow": Arrow(), "json_lines": JSONLines(), "csv": CSV()}
"""Those that a name tells. What a document is in a file of text does not stand in its name."""


def suffixes_of(asked: ShardFormat | None) -> tuple[str, ...]:
    """What the shards of a folder end in: those of one format, or of all that a name tells."""
    if asked is None:
        return tuple(suffix for one in FORMATS.values() for suffix in one.suffixes)
    return format_of("", asked).suffixes


def format_of(url: str, asked: ShardFormat | None, unit: TextUnit = "file", name: str = "") -> Format:
    """The format asked for, or the one that the URL's end tells; an end that tells none is taken for JSON Lines.

    `unit` and `name`, that of the shard in its source, are for plain text.
    """
    if asked == "text":
        return Text(unit, name)
    if asked is not None:
        return FORMATS[asked]
    return next((one for one in FORMATS.values() if url.endswith(one.suffixes)), FORMATS["json_lines"])
