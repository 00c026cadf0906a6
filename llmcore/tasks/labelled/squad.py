"""SQuAD's JSON, versions 1.1 and 2.0: articles with paragraphs with questions, each a row."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmcore.corpus.formats.base import MAX_CHARACTERS, check_there, in_tables
from llmcore.corpus.formats.opened import COMPRESSIONS, opened_text, reading
from llmcore.errors import BadShardError
from llmcore.storage import parsed_json

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Squad"]

_MOST_CHARACTERS = 4 * MAX_CHARACTERS


class Squad:
    """A `corpus.formats.Format`. A file is one JSON value, so the whole of it is in memory while it is read.

    `group` is the article's title, or a digest of the paragraph where there is none; `answers` is JSON.
    """

    suffixes: tuple[str, ...] = tuple(f".json{compression}" for compression in COMPRESSIONS)
    _COLUMNS = ("id", "title", "context", "question", "answers", "is_impossible", "group")

    def columns(self, url: str) -> list[str] | None:
        """Always the same."""
        return list(self._COLUMNS)

    def tables(self, url: str, wanted: Sequence[str], texts: Sequence[str] = ()) -> Iterator["pa.Table"]:
        """Question by question."""
        check_there(url, wanted, self._COLUMNS)
        yield from in_tables(self._rows(url), wanted)

    @staticmethod
    def _rows(url: str) -> Iterator[tuple[Mapping[str, str | None], int]]:
        with reading(url) as row, opened_text(url) as file:
            try:
                text = file.read(_MOST_CHARACTERS + 1)
                if len(text) > _MOST_CHARACTERS:
                    raise ValueError(f"it has more than {_MOST_CHARACTERS:,} characters; give it in several files")
                for article in parsed_json(text)["data"]:
                    for paragraph in article["paragraphs"]:
                        shared = _shared(article.get("title"), paragraph["context"])
                        for question in paragraph["qas"]:
                            fields = shared | _fields(question)
                            yield fields, len(fields["context"] or "")
                            row.at += 1
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
                raise BadShardError(f"{url}: row {row.at} is not as in SQuAD's JSON ({reason})") from error


def _shared(title: str | None, context: str) -> dict[str, str | None]:
    """What all questions on a paragraph have."""
    group = title or hashlib.blake2b(context.encode(), digest_size=8).hexdigest()
    return {"title": title, "context": context, "group": group}


def _fields(question: dict[str, Any]) -> dict[str, str | None]:
    impossible = bool(question.get("is_impossible", False))
    answers = [{"text": answer["text"], "start": answer["answer_start"]} for answer in question["answers"]]
    if impossible and answers:
        raise ValueError(f"question {question['id']!r} is said to be impossible, and has answers")
    return {
        "id": str(question["id"]),
        "question": question["question"],
        "answers": json.dumps(answers, ensure_ascii=False),
        "is_impossible": json.dumps(impossible),
    }
