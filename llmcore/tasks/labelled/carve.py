"""Which split a row of `train` belongs to, where some of them are carved from it."""

from collections.abc import Mapping
from dataclasses import dataclass

from llmcore.config.labelled import LabelledDataSettings
from llmcore.corpus.split import KeySize, Shares, split_of_id, split_of_keys
from llmcore.tasks.columns import SetColumns
from llmcore.tasks.duplicates import digest_of, words_of
from llmcore.tasks.labelled.fields import Texts
from llmcore.tasks.labelled.mapping import GROUP

__all__ = ["Carving"]


@dataclass(frozen=True)
class Carving:
    """A pure function of the rows and a seed: what stands in the files before or after a row does not matter.

    Attributes:
        columns: Those of the set.
        shares: Of the rows; 0 for splits that are given, or not wanted.
        seed: Another one gives other splits.
        groups: The split of each group.
    """

    columns: SetColumns
    shares: Shares
    seed: int
    groups: Mapping[str, str]

    @classmethod
    def of(cls, settings: LabelledDataSettings, columns: SetColumns, group_sizes: Mapping[str, int]) -> "Carving":
        """The carving of a set whose groups have so many rows in `train`."""
        carved = settings.carved()
        shares = Shares(carved.validation, carved.test)
        keys = {group: KeySize("", size) for group, size in group_sizes.items()}
        return cls(columns, shares, settings.seed, split_of_keys(keys, shares, settings.seed))

    def split_of(self, texts: Texts) -> str:
        """By its group; a row without one by the words of its inputs, so that duplicates stay together."""
        group = texts.get(GROUP)
        if group is not None:
            return self.groups[group]
        inputs = {column.name for column in self.columns.inputs}
        given = [words_of(text) for key, text in texts.items() if key.partition(".")[0] in inputs]
        return split_of_id(digest_of(given).hex(), self.shares, self.seed)
