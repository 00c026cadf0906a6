"""One row of a file as a row of a labelled set."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from llmcore.config.labelled import LabelledDataSettings
from llmcore.corpus.chat import messages_of
from llmcore.errors import CorpusError
from llmcore.storage import parsed_json
from llmcore.tasks.columns import Column
from llmcore.tasks.labelled.answers import parsed_answers, placed
from llmcore.tasks.labelled.fields import Texts
from llmcore.tasks.labelled.labels import Labels, parts_of_labels
from llmcore.tasks.labelled.mapping import GROUP, ID, Mapped, turn_key

__all__ = ["RowMaker"]

_ANSWERS_BY = "assistant"
"""The role of the messages that are learnt."""


class _EmptyError(Exception):
    """There is nothing where something must be."""


@dataclass
class RowMaker:
    """Makes rows of one split, and counts what it repairs and leaves out.

    Attributes:
        mapped: The columns of the set.
        labels: Its classes; None where it has none.
        counts: Rows and answers by what was done with them.
    """

    mapped: Mapped
    labels: Labels | None
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def _settings(self) -> LabelledDataSettings:
        return self.mapped.settings

    def row(self, file: str, number: int, texts: Texts) -> dict[str, Any] | None:
        """The row, or None for one that is left out.

        Raises:
            CorpusError: A value is not as its column must be; the message names file, row and column.
        """
        where = f"{file} row {number}"
        row: dict[str, Any] = {ID: self._name(ID, texts, f"{file}:{number}", where)}
        row[GROUP] = self._name(GROUP, texts, row[ID], where)
        row |= {name: texts[name] for name in self.mapped.columns.metadata}
        for column in self.mapped.columns.columns:
            try:
                row[column.name] = self._value(column, texts, row)
            except _EmptyError:
                if self._settings.empty == "fail":
                    raise CorpusError(
                        f"{where}: {column.name} is empty; correct the row, or leave such rows out with empty=drop"
                    ) from None
                self.counts[f"rows_with_empty_{column.name}"] += 1
                return None
            except ValueError as error:
                raise CorpusError(f"{where}: {column.name}: {error}") from error
            if row[column.name] is None:
                return None
        return row

    @staticmethod
    def _name(key: str, texts: Texts, default: str, where: str) -> str:
        name = texts.get(key, default)
        if not name:
            raise CorpusError(f"{where}: {key} is empty; give each row one, or leave `{key}` out of the configuration")
        return name

    def _value(self, column: Column, texts: Texts, row: dict[str, Any]) -> Any:
        """A value as its column has it; None where its row is left out, and counted."""
        if column.shape == "messages" and self._settings.messages is not None:
            return self._answered(self._turns(texts))
        text = texts[column.name]
        if text is None or not text.strip():
            if not column.may_be_empty:
                raise _EmptyError
            return "" if column.shape == "text" else []
        value: Any = text
        match column.shape:
            case "label" if self.labels is not None:
                value = self.labels.index(text)
            case "labels" if self.labels is not None:
                parts = parts_of_labels(text, self._settings.label_separator)
                value = list(dict.fromkeys(map(self.labels.index, parts)))
            case "number":
                value = float(text)
            case "texts":
                value = _texts(text)
            case "messages":
                value = self._answered([{key: one[key] for key in ("role", "content")} for one in messages_of(text)])
            case "answers":
                value = self._answers(text, row["context"])
        return value

    def _turns(self, texts: Texts) -> list[dict[str, str]]:
        turns = self._settings.messages or []
        said = [(turn.role, texts[turn_key(number)] or "") for number, turn in enumerate(turns)]
        return [{"role": role, "content": content} for role, content in said if content.strip()]

    @staticmethod
    def _answered(messages: list[dict[str, str]]) -> list[dict[str, str]]:
        if not any(message["role"] == _ANSWERS_BY and message["content"].strip() for message in messages):
            raise _EmptyError
        return messages

    def _answers(self, text: str, context: str) -> list[dict[str, Any]] | None:
        answers = parsed_answers(text)
        found = placed(context, answers, self._settings.answers)
        self.counts["answers_repaired"] += found.num_repaired
        self.counts["answers_left_out"] += found.num_dropped
        if answers and not found.answers:
            self.counts["rows_without_a_right_answer"] += 1  # they would become questions that have no answer
            return None
        return [answer._asdict() for answer in found.answers]


def _texts(text: str) -> list[str]:
    found: Any = parsed_json(text) if text.lstrip().startswith("[") else [text]
    if not all(isinstance(one, str) for one in found):
        raise ValueError(f"{text!r:.80} is no list of texts")
    if not any(map(str.strip, found)):
        raise _EmptyError
    return list(found)
