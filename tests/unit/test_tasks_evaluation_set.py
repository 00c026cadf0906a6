"""A labelled set is what was written, under a name that is its content; whatever is wrong with it is said."""

import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcore.errors import CheckpointError, CorpusError
from llmcore.storage import Folder
from llmcore.tasks.evaluation_set import EvaluationSet, write_evaluation_set

LABELS = ["files", "text", "time"]


def table(rows: list[tuple[str | None, str | None, int | None, str | None]]) -> pa.Table:
    columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], []]
    types = [pa.string(), pa.string(), pa.int32(), pa.string()]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
    return pa.table(dict(zip(["id", "text", "label", "group"], arrays, strict=True)))


def splits() -> dict[str, list[tuple[str, str, int, str]]]:
    return {
        split: [(f"{split}{row}", f"{split} text {row} ü", row % 3, f"m{row // 2}") for row in range(5)]
        for split in ("train", "validation", "test")
    }


def write(storage: Path, rows: dict[str, Any], name: str = "areas", **options: Any) -> EvaluationSet:
    return write_evaluation_set(
        Folder(str(storage)), name, LABELS, {split: [table(of_split)] for split, of_split in rows.items()}, **options
    )


def test_what_is_written_is_read_split_by_split(tmp_path: Path) -> None:
    written = write(tmp_path, splits())
    opened = EvaluationSet.open(Folder(written.folder.url))
    opened.verify()
    assert (opened.label_names, opened.splits) == (LABELS, ["train", "validation", "test"])
    assert opened.folder.url.endswith(f"artifacts/evaluation-sets/{opened.hash}")
    for split in opened.splits:
        assert opened.rows(split).equals(table(splits()[split]))
        assert opened.num_rows(split) == 5


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 5), max_size=4))
def test_the_hash_does_not_depend_on_how_rows_are_cut_into_tables(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    rows = splits()
    edges = [0, *sorted(cuts), 5]
    train = [table(rows["train"][a:b]) for a, b in itertools.pairwise(edges)]
    whole = write(tmp_path_factory.mktemp("whole"), rows)
    others = {split: [table(rows[split])] for split in ("validation", "test")}
    cut = write_evaluation_set(Folder(str(tmp_path_factory.mktemp("cut"))), "x", LABELS, {"train": train, **others})
    assert cut.hash == whole.hash
    assert cut.rows("train").combine_chunks().equals(whole.rows("train").combine_chunks())


@pytest.mark.parametrize("column", range(4))
def test_the_hash_changes_with_any_value_of_any_row(tmp_path: Path, column: int) -> None:
    rows = splits()
    before = write(tmp_path, rows)
    value = list(rows["train"][3])
    value[column] = 2 if column == 2 else f"{value[column]}!"
    rows["train"][3] = tuple(value)  # type: ignore[assignment]
    after = write(tmp_path, rows)
    assert after.hash != before.hash
    assert after.split_hash("train") != before.split_hash("train")
    assert after.split_hash("test") == before.split_hash("test")


def test_moving_characters_between_columns_changes_the_hash(tmp_path: Path) -> None:
    first, second = splits(), splits()
    first["train"][0] = ("ab", "c", 0, "d")
    second["train"][0] = ("a", "bc", 0, "d")
    assert write(tmp_path, first).hash != write(tmp_path, second).hash


def test_writing_the_same_again_changes_no_file(tmp_path: Path) -> None:
    first = write(tmp_path, splits())
    path = Path(first.folder.url)
    before = {file: file.stat().st_mtime_ns for file in path.iterdir()}
    again = write(tmp_path, splits(), name="another-name")
    assert again.hash == first.hash
    assert {file: file.stat().st_mtime_ns for file in path.iterdir()} == before


@pytest.mark.parametrize(
    ("split", "row", "said"),
    [
        ("validation", ("v", "new", 3, "m"), r"validation row 5 \(id 'v'\).*label 3 is outside 0 … 2"),
        ("validation", ("v", "new", -1, "m"), "label -1 is outside"),
        ("test", ("t", None, 0, "m"), "test row 5.*'text' is missing"),
        ("test", ("t", "new", 0, None), "'group' is missing"),
        ("test", ("train0", "new", 0, "m"), "id stands twice"),
        ("test", ("t", "train text 1 ü", 0, "m"), r"test row 5 \(id 't'\).*same text stands in the train split"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, split: str, row: Any, said: str) -> None:
    rows: dict[str, Any] = splits()
    rows[split].append(row)
    with pytest.raises(CorpusError, match=said):
        write(tmp_path, rows)
    assert not (tmp_path / "artifacts").exists()


def test_duplicates_between_splits_may_be_allowed(tmp_path: Path) -> None:
    rows = splits()
    rows["test"].append(("t", "train text 1 ü", 0, "m"))
    assert write(tmp_path, rows, allow_duplicates=True).num_rows("test") == 6


def test_an_empty_split_a_missing_column_and_too_few_classes_are_refused(tmp_path: Path) -> None:
    storage = Folder(str(tmp_path))
    with pytest.raises(CorpusError, match="the validation split is empty"):
        write_evaluation_set(storage, "x", LABELS, {"train": [table(splits()["train"])], "validation": []})
    with pytest.raises(CorpusError, match=r"train: columns \['group'\] are missing"):
        write_evaluation_set(storage, "x", LABELS, {"train": [table(splits()["train"]).drop_columns("group")]})
    with pytest.raises(CorpusError, match="two or more distinct label names"):
        write_evaluation_set(storage, "x", ["one"], {"train": [table(splits()["train"])]})


def test_an_altered_file_or_an_absent_set_or_split_is_said(tmp_path: Path) -> None:
    written = write(tmp_path, {split: rows for split, rows in splits().items() if split != "test"})
    with pytest.raises(CorpusError, match="no split 'test'"):
        written.rows("test")
    with pytest.raises(CorpusError, match="nothing complete"):
        EvaluationSet.open(Folder(str(tmp_path / "nowhere")))
    file = Path(written.folder.url) / "train.parquet"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(CheckpointError, match=r"train\.parquet"):
        written.rows("train")
    assert written.rows("validation").num_rows == 5
