"""What must hold of the rows of a labelled set, whoever made them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from llmcore.errors import CorpusError
from llmcore.tasks.columns import SetColumns
from llmcore.tasks.duplicates import digest_of, words_of

__all__ = ["RowChecker"]


class _Place(NamedTuple):
    split: str
    row: int


@dataclass
class RowChecker:
    """Looks at the rows of all splits, one after the other, and keeps a digest of each.

    Attributes:
        name: What people call the set.
        columns: Its columns.
        label_names: The classes.
        allow_duplicates: Whether the same inputs may stand in two splits.
        by_words: Whether inputs are the same whose words are, case and punctuation aside.
        id_of: The id of a row that was checked before, by split and row.
    """

    name: str
    columns: SetColumns
    label_names: Sequence[str]
    allow_duplicates: bool
    by_words: bool
    id_of: Callable[[str, int], str]
    _ids: set[bytes] = field(default_factory=set)
    _inputs: dict[bytes, _Place] = field(default_factory=dict)

    def check(self, split: str, number: int, row: Mapping[str, Any]) -> str | None:
        """The split in which the inputs of this row stand before, or None.

        Raises:
            CorpusError: The row is not as it must be; the message names split and row.
        """
        where = f"evaluation set {self.name!r}, {split} row {number} (id {row['id']!r})"
        for column in self.columns.all:
            value = row[column.name]
            if value is None:
                raise CorpusError(
                    f"{where}: {column.name!r} is missing; every row needs "
                    f"{[column.name for column in self.columns.all]}"
                )
            if reason := self._reason(column.shape, value, row):
                raise CorpusError(f"{where}: {column.name} {reason}")
        digest = digest_of(row["id"])
        if digest in self._ids:
            raise CorpusError(f"{where}: the id stands twice in the set: give each row one of its own")
        self._ids.add(digest)
        return self._seen_in(_Place(split, number), row, where)

    def _reason(self, shape: str, value: Any, row: Mapping[str, Any]) -> str | None:
        """What is wrong with a value, or None."""
        classes = range(len(self.label_names))
        reason = None
        match shape:
            case "label" if value not in classes:
                reason = f"{value} is outside 0 … {len(classes) - 1}, the indices of {list(self.label_names)}"
            case "labels" if not set(value) <= set(classes) or len(set(value)) < len(value):
                reason = f"{value} are not distinct indices of {list(self.label_names)}"
            case "answers":
                reason = next(filter(None, (_misplaced(answer, row["context"]) for answer in value)), None)
            case "number" if not math.isfinite(value):
                reason = f"{value} is no finite number"
            case "texts" if None in value:
                reason = "has an item that is null"
            case "messages" if any(None in message.values() for message in value):
                reason = "has a message without role or content"
        return reason

    def _seen_in(self, place: _Place, row: Mapping[str, Any], where: str) -> str | None:
        names = [column.name for column in self.columns.inputs]
        inputs = [row[name] for name in names]
        first = self._inputs.setdefault(digest_of(words_of(inputs) if self.by_words else inputs), place)
        if first is place:
            return None
        if first.split != place.split and not self.allow_duplicates:
            raise CorpusError(
                f"{where}: the same {' and '.join(names)} stands in the {first.split} split, row {first.row} "
                f"(id {self.id_of(*first)!r}){', case and punctuation aside' if self.by_words else ''}: a model would "
                "be judged on what it has seen; keep one copy, or set allow_duplicates=true"
            )
        return first.split


def _misplaced(answer: Mapping[str, Any], context: str) -> str | None:
    start, text = answer["start"], answer["text"]
    if context[start : start + len(text)] == text and start >= 0:
        return None
    return f"{text!r:.80} does not stand at character {start} of the context"
