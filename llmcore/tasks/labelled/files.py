"""The files of a labelled set: found, named, and read as tables of text whatever their format."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING

from llmcore.config.labelled import Files, LabelledDataSettings
from llmcore.config.prepare import ShardFormat
from llmcore.corpus.formats import FORMATS, Format, format_of
from llmcore.corpus.formats.records import CSV
from llmcore.corpus.hub import publish_dataset
from llmcore.corpus.shards import Shard, find_shards
from llmcore.errors import ConfigError, CorpusError
from llmcore.storage import Folder
from llmcore.tasks.evaluation_set import SPLITS, Split
from llmcore.tasks.labelled.aligned import aligned_tables
from llmcore.tasks.labelled.squad import Squad

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Part", "find_parts"]

_WHOLE = ""
"""Key of a file that has all columns."""


@dataclass(frozen=True)
class Part:
    """A file with rows, or files of text side by side.

    Attributes:
        name: Its path below the folder that all files of the set are in; ids begin with it.
        shards: The file, or those of each column.
        format: How it is read; None: text, side by side.
    """

    name: str
    shards: Mapping[str, Shard]
    format: Format | None

    @property
    def is_squad(self) -> bool:
        """Whether its format has ids and groups of its own."""
        return isinstance(self.format, Squad)

    @property
    def names_its_columns(self) -> bool:
        """Whether its first row is taken for the names of its columns."""
        return isinstance(self.format, CSV) and self.format.header is None

    @cached_property
    def columns(self) -> list[str]:
        """What it has; none where it has no row that tells. Raises ShardError."""
        if self.format is None:
            return list(self.shards)
        return self.format.columns(self.shards[_WHOLE].url) or []

    def tables(self, wanted: Sequence[str], texts: Sequence[str]) -> "Iterator[pa.Table]":
        """The wanted columns as text, some thousand rows at a time; `texts` must be text. Raises ShardError."""
        if self.format is None:
            return aligned_tables({column: shard.url for column, shard in self.shards.items()}, wanted)
        return self.format.tables(self.shards[_WHOLE].url, wanted, texts)


def find_parts(storage: Folder, settings: LabelledDataSettings, *, answers: bool) -> dict[Split, list[Part]]:
    """The files of each split that is given; a dataset's are put on the storage, unless they are there.

    Args:
        storage: Where artifacts are kept.
        settings: Which files.
        answers: Whether questions are answered, so that a `.json` is SQuAD's.

    Raises CorpusError for files that are not there, ConfigError for a header where there is no CSV.
    """
    given = {split: files for split in SPLITS if (files := getattr(settings, split)) is not None}
    found = {split: _parts(storage, settings, f"data.{split}", files, answers) for split, files in given.items()}
    if settings.header is not None and not any(isinstance(part.format, CSV) for of in found.values() for part in of):
        raise ConfigError(
            f"header={settings.header} is for CSV and TSV, and no file is one: leave it out, or say `format`"
        )
    if settings.dataset is not None:
        return found
    folders = {tuple(_place(part)[:-1]) for parts in found.values() for part in parts}
    above = sum(1 for _ in takewhile(lambda names: len(set(names)) == 1, zip(*folders, strict=False)))
    return {
        split: [replace(part, name="/".join(_place(part)[above:])) for part in parts] for split, parts in found.items()
    }


def _place(part: Part) -> list[str]:
    """The URL of a file, of several the first, in its parts."""
    return next(iter(part.shards.values())).url.split("/")


def _parts(storage: Folder, settings: LabelledDataSettings, key: str, files: Files, answers: bool) -> list[Part]:
    if settings.dataset is not None:
        dataset = settings.dataset.model_copy(update={"split": files})
        folder = publish_dataset(storage, key, dataset)
        shards = find_shards(key, folder.url, "parquet")
        return [Part(f"{files}/{shard.name}", {_WHOLE: shard}, FORMATS["parquet"]) for shard in shards]
    if isinstance(files, dict):
        return _side_by_side(key, files)
    asked = settings.format
    # What is asked for may have any name; SQuAD's and CSV's kinds are told apart below.
    known: ShardFormat | None = "csv" if asked == "tsv" else "json_lines" if asked == "squad" else asked
    shards = [shard for url in ([files] if isinstance(files, str) else files) for shard in find_shards(key, url, known)]
    return [Part("", {_WHOLE: shard}, _format(shard.url, settings, answers)) for shard in shards]


def _side_by_side(key: str, files: Mapping[str, str | list[str]]) -> list[Part]:
    found = {
        column: [
            shard for url in ([urls] if isinstance(urls, str) else urls) for shard in find_shards(key, url, "text")
        ]
        for column, urls in files.items()
    }
    if len({len(shards) for shards in found.values()}) > 1:
        counts = ", ".join(f"{column} {len(shards)}" for column, shards in found.items())
        raise CorpusError(f"{key}: files of text side by side are not equally many ({counts}): give one beside each")
    return [Part("", dict(zip(found, shards, strict=True)), None) for shards in zip(*found.values(), strict=True)]


def _format(url: str, settings: LabelledDataSettings, answers: bool) -> Format:
    name = url.rpartition("/")[2]
    match settings.format:
        case "squad":
            return Squad()
        case "csv" | "tsv" as asked:
            return CSV(settings.header, {"csv": ",", "tsv": "\t"}[asked], quotes=settings.quotes)
        case None if answers and name.endswith(Squad.suffixes):
            return Squad()
        case None if name.endswith(CSV.suffixes):
            return CSV(settings.header, quotes=settings.quotes)
        case asked:
            return format_of(url, asked)
