"""Reading the files of a labelled set: which rows belong to a split, and what becomes of each."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmcore.config.labelled import LabelledDataSettings
from llmcore.errors import CorpusError
from llmcore.tasks.columns import SetKind
from llmcore.tasks.evaluation_set import SPLITS, Split
from llmcore.tasks.labelled.carve import Carving
from llmcore.tasks.labelled.fields import texts_of
from llmcore.tasks.labelled.files import Part
from llmcore.tasks.labelled.labels import Labels, parts_of_labels
from llmcore.tasks.labelled.mapping import GROUP, Mapped, mapped_columns
from llmcore.tasks.labelled.rows import RowMaker

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Reading"]


@dataclass(frozen=True)
class Reading:
    """Files that have been looked at; their rows are read split by split.

    Attributes:
        mapped: The columns of the set, and what they are in the files.
        parts: The files of each split that is given.
        carving: How the others come out of `train`.
        labels: The classes; None where rows have none.
        makers: What makes the rows of each split of the set.
    """

    mapped: Mapped
    parts: Mapping[Split, Sequence[Part]]
    carving: Carving
    labels: Labels | None
    makers: Mapping[Split, RowMaker]

    @classmethod
    def of(cls, settings: LabelledDataSettings, kind: SetKind, parts: Mapping[Split, Sequence[Part]]) -> "Reading":
        """Look at the files: their columns, and all their labels and groups where these have to be known before.

        Raises CorpusError and ConfigError, as `publish_labelled_data` says, and ShardError.
        """
        every = [part for of_split in parts.values() for part in of_split]
        mapped = mapped_columns(kind, settings, every)
        labels = _labels(mapped, every) if mapped.columns.has_labels else None
        carved = settings.carved()
        splits = [split for split in SPLITS if split in parts or getattr(carved, split, 0) > 0]
        sizes = _group_sizes(mapped, parts["train"]) if set(splits) > set(parts) else {}
        makers = {split: RowMaker(mapped, labels) for split in splits}
        return cls(mapped, parts, Carving.of(settings, mapped.columns, sizes), labels, makers)

    @property
    def label_names(self) -> list[str]:
        """The classes, in order."""
        return [] if self.labels is None else self.labels.names

    def tables(self, split: Split) -> "Iterator[pa.Table]":
        """The rows of a split, some thousand at a time. Raises CorpusError, ShardError."""
        import pyarrow as pa

        schema, maker = self.mapped.columns.schema(), self.makers[split]
        divided = len(self.makers) > len(self.parts) and split not in self.parts.keys() - {"train"}
        for part in self.parts["train"] if divided else self.parts[split]:
            for first, texts in texts_of(part, self.mapped.references(part), self.mapped.texts(part)):
                mine = (
                    (number, row)
                    for number, row in enumerate(texts, first)
                    if not divided or self.carving.split_of(row) == split
                )
                rows = [made for number, row in mine if (made := maker.row(part.name, number, row)) is not None]
                if rows:
                    yield pa.Table.from_pylist(rows, schema=schema)

    def counts(self) -> dict[str, dict[str, int]]:
        """By split, what was repaired and left out of it, as far as it was read."""
        return {
            split: dict(sorted(counts.items())) for split, maker in self.makers.items() if (counts := +maker.counts)
        }


def _group_sizes(mapped: Mapped, parts: Sequence[Part]) -> Counter[str]:
    """The rows of each group; rows without one are in none."""
    sizes: Counter[str] = Counter()
    for part in parts:
        if group := mapped.references(part).get(GROUP):
            for _, texts in texts_of(part, {GROUP: group}):
                sizes.update(name for row in texts if (name := row[GROUP]) is not None)
    return sizes


def _labels(mapped: Mapped, parts: Sequence[Part]) -> Labels:
    """As the configuration says, or all that there are."""
    given = mapped.settings.label_names
    return Labels.found(_found_labels(mapped, parts)) if given is None else Labels.of(given)


def _found_labels(mapped: Mapped, parts: Sequence[Part]) -> Iterator[str]:
    column = next(column for column in mapped.columns.columns if column.shape in ("label", "labels"))
    separator = mapped.settings.label_separator
    for part in parts:
        for first, texts in texts_of(part, {column.name: mapped.references(part)[column.name]}):
            for number, row in enumerate(texts, first):
                text = row[column.name]
                if text is None or not text.strip():
                    continue  # refused, or left out, where its row is made
                try:
                    yield from [text] if column.shape == "label" else parts_of_labels(text, separator)
                except ValueError as error:
                    raise CorpusError(f"{part.name} row {number}: {column.name}: {error}") from error
