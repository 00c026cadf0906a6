"""What the labelled sets of a kind hold: what a model is given, and what it is judged against."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcore.tasks.chat import ASSISTANT
from llmcore.tasks.columns import KINDS, Column, SetKind
from llmcore.tasks.evaluation_set import EvaluationSet

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Subject"]


@dataclass(frozen=True)
class Subject:
    """What is judged: the kind of a labelled set, and its classes.

    Attributes:
        kind: The kind of task.
        label_names: The classes, of classification.
        multi_label: Whether a row has any number of classes.
        own_columns: Of a kind that the package does not have.
    """

    kind: str
    label_names: tuple[str, ...] = ()
    multi_label: bool = False
    own_columns: tuple[Column, ...] = ()

    @classmethod
    def of(cls, labelled: EvaluationSet) -> "Subject":
        """What a labelled set is for."""
        about = labelled.manifest.about
        own = () if about["kind"] in KINDS else tuple(Column(**column) for column in about["kind_columns"])
        return cls(str(about["kind"]), tuple(about.get("label_names") or ()), "labels" in about["columns"], own)

    @property
    def references(self) -> tuple[str, ...]:
        """Columns that predictions are judged against."""
        return SetKind(self.kind, self._columns).references

    def reference_texts(self, rows: "pa.Table") -> list[str]:
        """The text that was to be written: the first of the references, or the last answer of a conversation."""
        texts: list[Any] = rows[self.references[0]].to_pylist()
        return [text if isinstance(text, str) else text[_last_answer(text)]["content"] for text in texts]

    def input_words(self, rows: "pa.Table") -> list[int]:
        """Words (at white space) that a model is given of each row; of a conversation, all before the last answer."""
        counts = [0] * rows.num_rows
        for name in self.inputs(rows):
            for index, text in enumerate(rows[name].to_pylist()):
                texts = [text] if isinstance(text, str) else _before_last_answer(text or [])
                counts[index] += sum(len(one.split()) for one in texts)
        return counts

    def metadata(self, rows: "pa.Table") -> list[str]:
        """The other columns of strings: what is known of rows, and neither given to a model nor judged against."""
        import pyarrow as pa

        own = {"id", "group", *self.inputs(rows), *self.references}
        return [
            field.name
            for field in rows.schema
            if field.name not in own and (pa.types.is_string(field.type) or pa.types.is_large_string(field.type))
        ]

    def inputs(self, rows: "pa.Table") -> list[str]:
        """Columns of rows that a model is given."""
        inputs = [column.name for column in self._columns if column.is_input]
        return [name for name in inputs if name in rows.column_names]

    @property
    def _columns(self) -> tuple[Column, ...]:
        return KINDS[self.kind].columns if self.kind in KINDS else self.own_columns


def _last_answer(messages: Sequence[Mapping[str, str]]) -> int:
    """Where it stands in a conversation; none: at the end."""
    return max((number for number, one in enumerate(messages) if one["role"] == ASSISTANT), default=len(messages))


def _before_last_answer(messages: Sequence[Mapping[str, str]]) -> list[str]:
    return [one["content"] for one in messages[: _last_answer(messages)]]
