"""The one description of columns: what it demands, what follows from it, and that the documents say the same."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from llmcore.errors import CorpusError
from llmcore.storage import Folder
from llmcore.tasks.columns import KINDS
from llmcore.tasks.duplicates import digest_of, words_of
from llmcore.tasks.evaluation_set import write_evaluation_set

DOCS = Path(__file__).parents[2] / "docs/tasks.md"

ROWS: dict[str, dict[str, Any]] = {
    "text_classification": {"text": "t", "text_pair": "p", "labels": [1, 0]},
    "question_answering": {"question": "q", "context": "so it is", "answers": [{"text": "it", "start": 3}]},
    "translation": {"source": "s", "target": "t"},
    "summarization": {"document": "d", "summary": "s"},
    "text_generation": {"prompt": "", "completion": "c"},
    "chat": {"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]},
    "code_generation": {"prompt": "p", "solution": "s", "tests": ["t"], "setup": ""},
}


def _write(tmp_path: Path, kind: str, row: dict[str, Any], metadata: dict[str, str | None] | None = None) -> Any:
    columns = KINDS[kind].chosen(row).with_metadata(tuple(metadata or ()))
    whole = {"id": "i", "group": "g"} | row | (metadata or {})
    table = pa.Table.from_pylist([whole], schema=columns.schema())
    names = ["a", "b"] if columns.has_labels else []
    return write_evaluation_set(Folder(str(tmp_path)), "x", names, {"test": [table]}, columns=columns)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_each_kind_comes_back_with_its_metadata(tmp_path: Path, kind: str) -> None:
    written = _write(tmp_path, kind, ROWS[kind], {"year": "1999", "place": None})
    written.verify()
    (row,) = written.rows("test").to_pylist()
    assert row == {"id": "i", **ROWS[kind], "group": "g", "year": "1999", "place": None}
    assert (written.kind, written.columns, written.metadata) == (kind, list(row), ["year", "place"])
    assert written.report["test"]["num_rows"] == 1


def test_all_that_is_said_is_text_to_be_kept_out_of_pre_training(tmp_path: Path) -> None:
    said = {kind: _write(tmp_path, kind, row, {"year": "1"}).texts("test").to_pylist() for kind, row in ROWS.items()}
    assert said["text_classification"] == ["t\np"]
    assert said["question_answering"] == ["q\nso it is\nit"]
    assert said["chat"] == ["u\na"]
    assert said["code_generation"] == ["p\ns\nt\n"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_documents_name_every_column(kind: str) -> None:
    (line,) = (line for line in DOCS.read_text().splitlines() if line.startswith(f"| `{kind}` |"))
    assert [name for name in KINDS[kind].names() if f"`{name}`" not in line] == []


def test_which_columns_a_set_has() -> None:
    kind = KINDS["text_classification"]
    assert [column.name for column in kind.chosen(["label", "text", "other"]).all] == ["id", "text", "label", "group"]
    several = kind.chosen(["text", "labels"])
    assert several.with_metadata(("year",)).names == ("id", "text", "labels", "group", "year")
    with pytest.raises(CorpusError, match="text_classification needs text, label or labels"):
        kind.chosen([])
    with pytest.raises(CorpusError, match="has label or labels, not both"):
        kind.chosen(["text", "label", "labels"])
    with pytest.raises(CorpusError, match=r"metadata=\['id', 'year'\]"):
        several.with_metadata(("year", "id", "year"))


@pytest.mark.parametrize(
    ("kind", "changed", "said"),
    [
        ("text_classification", {"labels": [2]}, r"test row 0 \(id 'i'\): labels \[2\] are not distinct indices"),
        ("text_classification", {"labels": [0, 0]}, "are not distinct indices"),
        ("question_answering", {"answers": [{"text": "it", "start": 2}]}, "'it' does not stand at character 2"),
        ("question_answering", {"answers": [{"text": "it", "start": -5}]}, "does not stand at character -5"),
        ("chat", {"messages": [{"role": "user", "content": None}]}, "has a message without role or content"),
        ("code_generation", {"tests": [None]}, "tests has an item that is null"),
        ("translation", {"target": None}, "'target' is missing"),
    ],
)
def test_a_value_that_its_column_does_not_allow_is_named(
    tmp_path: Path, kind: str, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(CorpusError, match=said):
        _write(tmp_path, kind, ROWS[kind] | changed)


def test_sets_of_other_kinds_or_columns_are_other_sets(tmp_path: Path) -> None:
    texts = {"source": "a", "target": "b"}
    hashes = {
        _write(tmp_path, "translation", texts).hash,
        _write(tmp_path, "summarization", {"document": "a", "summary": "b"}).hash,
        _write(tmp_path, "translation", texts, {"year": "1"}).hash,
        _write(tmp_path, "translation", texts, {"year": None}).hash,
        _write(tmp_path, "translation", texts, {"place": "1"}).hash,
    }
    assert len(hashes) == 5


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Cool ?", "cool", True),
        ("Straße\n", "strasse", True),
        ("a (b), c", "a b c", True),
        ("2+2", "2-2", False),
        ("3.14", "314", False),
        ("?!", "!?", False),
        ([{"role": "user", "content": "Hi!"}], [{"role": "user", "content": "hi"}], True),
        (["a", "b"], ["a b"], False),
    ],
)
def test_words_are_compared_case_and_punctuation_aside(one: Any, other: Any, same: bool) -> None:
    assert (digest_of(words_of(one)) == digest_of(words_of(other))) is same
