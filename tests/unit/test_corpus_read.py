import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmcore.corpus.formats import as_text, format_of
from llmcore.corpus.read import DocumentReader
from llmcore.corpus.shards import find_shards, shards_hash
from llmcore.errors import CorpusError, ShardError

ROWS: list[dict[str, Any]] = [
    {"text": "eins", "site": "a", "label": 1},
    {"text": "", "site": None, "label": True},
    {"text": "drei — 3", "site": "b", "label": None},
]
READER = DocumentReader("s", 4, "text", key="site", fields=("label",))


def _write(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([row | {"label": as_text(row["label"])} for row in rows]), path)
    else:
        path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


def _read(path: Path, reader: DocumentReader = READER) -> list[dict[str, Any]]:
    (shard,) = find_shards("s", str(path))
    return [row for table in reader.read(shard, 7) for row in table.to_pylist()]


@pytest.mark.parametrize("name", ["part.parquet", "part.jsonl", "part.jsonl.gz", "part.json", "part.ndjson"])
def test_every_format_gives_the_same_documents(tmp_path: Path, name: str) -> None:
    rows = _read(_write(tmp_path / name))
    assert [(row["text"], row["key"], row["field.label"]) for row in rows] == [
        ("eins", "a", "1"),
        ("", None, "true"),
        ("drei — 3", "b", None),
    ]
    assert [row["id"] for row in rows] == [f"s/{name}:{number}" for number in range(3)]
    assert {(row["source"], row["shard"], row["stratum"]) for row in rows} == {(4, 7, None)}
    assert [row["row"] for row in rows] == [0, 1, 2]


def test_a_column_id_names_documents(tmp_path: Path) -> None:
    for name in ("part.parquet", "part.jsonl"):
        path = _write(tmp_path / name, [row | {"id": f"n{number}"} for number, row in enumerate(ROWS)])
        assert [row["id"] for row in _read(path)] == ["s/n0", "s/n1", "s/n2"]


def test_an_absent_field_is_null(tmp_path: Path) -> None:
    reader = DocumentReader("s", 0, "text", fields=("label", "other"), absent=frozenset({"other"}))
    rows = _read(_write(tmp_path / "part.jsonl"), reader)
    assert [(row["field.other"], row["field.label"]) for row in rows] == [(None, "1"), (None, "true"), (None, None)]


@pytest.mark.parametrize("name", ["part.parquet", "part.jsonl"])
def test_metadata_is_one_object_of_texts(tmp_path: Path, name: str) -> None:
    reader = DocumentReader("s", 0, "text", metadata=("label", "site"))
    kept = [row["metadata"] for row in _read(_write(tmp_path / name), reader)]
    assert kept == [
        '{"label": "1", "site": "a"}', '{"label": "true", "site": null}', '{"label": null, "site": "b"}',
    ]  # fmt: skip
    assert {row["metadata"] for row in _read(_write(tmp_path / name))} == {None}
    with pytest.raises(ShardError, match="year"):
        _read(_write(tmp_path / name), DocumentReader("s", 0, "text", metadata=("year",)))


def test_large_shards_come_in_several_tables(tmp_path: Path) -> None:
    rows = [{"text": str(number), "site": "a", "label": 0} for number in range(9000)]
    for name in ("part.parquet", "part.jsonl"):
        (shard,) = find_shards("s", str(_write(tmp_path / name, rows)))
        tables = list(READER.read(shard, 0))
        assert len(tables) > 1
        assert [row for table in tables for row in table["row"].to_pylist()] == list(range(9000))


def test_shards_are_found_in_folders_and_by_globs(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("a.parquet", "b/a.parquet", "c.jsonl"):
        _write(tmp_path / name)
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "README.md").write_text("about")
    assert [shard.name for shard in find_shards("s", str(tmp_path))] == ["a.parquet", "b/a.parquet", "c.jsonl"]
    assert [shard.name for shard in find_shards("s", f"{tmp_path}/**/*.parquet")] == ["a.parquet", "b/a.parquet"]
    assert [shard.name for shard in find_shards("s", f"file://{tmp_path}/c.jsonl")] == ["c.jsonl"]


def test_the_hash_of_shards_changes_with_them(tmp_path: Path) -> None:
    path = _write(tmp_path / "part.jsonl")
    before = shards_hash(find_shards("s", str(path)))
    assert shards_hash(find_shards("s", str(path))) == before
    _write(path, ROWS[:2])
    assert shards_hash(find_shards("s", str(path))) != before


def test_a_missing_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"source web: url='/nowhere/\*\.parquet' matches no file"):
        find_shards("web", "/nowhere/*.parquet")
    with pytest.raises(CorpusError, match="matches no file"):
        find_shards("web", str(tmp_path))
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(CorpusError, match=r"no shards: none of its 1 files ends in \.parquet"):
        find_shards("web", str(tmp_path))
    with pytest.raises(CorpusError, match="cannot be looked at"):
        find_shards("web", "nosuchprotocol://bucket/folder")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{torn", r"part\.jsonl: row 1 is not JSON"),
        ("[1]", r"part\.jsonl: row 1 is a list"),
        ('{"site": "a", "label": 1}', r"part\.jsonl: row 1 has no \['text'\], but \['label', 'site'\]"),
        ('{"text": "\\ud800", "site": "a", "label": 1}', r"part\.jsonl: row 1 has half a surrogate pair"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "part.jsonl"
    path.write_text(f"{json.dumps(ROWS[0])}\n{line}\n")
    with pytest.raises(ShardError, match=reason):
        _read(path)


@pytest.mark.parametrize("name", ["part.parquet", "part.jsonl.gz"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.95])
def test_a_torn_shard_is_named(tmp_path: Path, name: str, kept: float) -> None:
    path = _write(tmp_path / name, [row | {"text": f"{row['text']}{n}"} for n in range(300) for row in ROWS])
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    if path.stat().st_size == 0 and name.endswith(".gz"):
        assert _read(path) == []  # an empty file of JSON Lines has no documents; the corpus is refused if all are
        return
    with pytest.raises(ShardError, match=name):
        _read(path)


def test_a_parquet_shard_without_a_column_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "part.parquet")
    with pytest.raises(ShardError, match=r"part\.parquet: has no columns \['text', 'site', 'label'\], only \['body'\]"):
        _read(tmp_path / "part.parquet")


def test_columns_are_known_before_anything_is_read(tmp_path: Path) -> None:
    for name in ("part.parquet", "part.jsonl", "part.jsonl.gz"):
        (shard,) = find_shards("s", str(_write(tmp_path / name)))
        assert sorted(format_of(shard.url, None).columns(shard.url) or []) == ["label", "site", "text"]
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    assert format_of(str(empty), None).columns(str(empty)) is None
