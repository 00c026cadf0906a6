"""Every format of shards, and what is wrong with one."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcore.config.prepare import ShardFormat, SourceSettings, TextUnit
from llmcore.corpus.formats import format_of
from llmcore.corpus.read import DocumentReader
from llmcore.corpus.shards import find_shards
from llmcore.errors import CorpusError, ShardError

ROWS = [
    {"id": "a", "text": "eins, „zwei“", "site": "x"},
    {"id": "b", "text": 'two\nlines, and a "quote"', "site": "y"},
    {"id": "c", "text": "", "site": "tab\there"},
]


def _zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def _csv(rows: list[dict[str, str]], delimiter: str = ",") -> bytes:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, fieldnames=list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def _ipc(rows: list[dict[str, str]], *, stream: bool) -> bytes:
    table = pa.Table.from_pylist(rows)
    sink = pa.BufferOutputStream()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue().to_pybytes()


def _bytes(name: str, rows: list[dict[str, str]]) -> bytes:
    """A shard of that name."""
    if ".jsonl" in name:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    elif ".csv" in name or ".tsv" in name:
        data = _csv(rows, "\t" if ".tsv" in name else ",")
    elif name.endswith(".parquet"):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows), sink)
        data = sink.getvalue().to_pybytes()
    else:
        data = _ipc(rows, stream="stream" in name)
    if name.endswith(".gz"):
        return gzip.compress(data)
    return _zstd(data) if name.endswith(".zst") else data


NAMES = ["a.parquet", "a.arrow", "stream.arrow", "a.feather", "a.jsonl", "a.jsonl.gz", "a.jsonl.zst"]
NAMES += ["a.csv", "a.csv.gz", "a.csv.zst", "a.tsv", "a.tsv.gz"]
READER = DocumentReader("s", 0, "text", key="site")


def _read(path: Path, reader: DocumentReader = READER) -> list[dict[str, Any]]:
    (shard,) = find_shards("s", str(path), reader.format)
    return [row for table in reader.read(shard, 0) for row in table.to_pylist()]


@pytest.mark.parametrize("name", NAMES)
def test_every_format_gives_the_same_documents(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(_bytes(name, ROWS))
    rows = _read(tmp_path / name)
    assert [(row["id"], row["text"], row["key"]) for row in rows] == [
        (f"s/{row['id']}", row["text"], row["site"]) for row in ROWS
    ]
    assert [row["row"] for row in rows] == [0, 1, 2]
    assert sorted(format_of(name, None).columns(str(tmp_path / name)) or []) == ["id", "site", "text"]


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_may_mix_them(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(_bytes(name, ROWS))
    (tmp_path / "z.jsonl").write_bytes(_bytes("z.jsonl", ROWS[:1]))
    (tmp_path / "notes.txt").write_text("no shard")
    assert [shard.name for shard in find_shards("s", str(tmp_path))] == [name, "z.jsonl"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kept", [0.2, 0.6, 0.97])
def test_a_torn_shard_is_named_and_what_was_whole_is_not_lost(tmp_path: Path, name: str, kept: float) -> None:
    """Lines that end with a whole row cannot be told from a shorter shard: then every row is one that was written."""
    rows = [{"id": str(n), "text": f"text {n} " * 9, "site": "s"} for n in range(400)]
    data = _bytes(name, rows)
    (tmp_path / name).write_bytes(data[: int(kept * len(data))])
    if name in ("a.jsonl", "a.csv", "a.tsv"):
        whole = data[: int(kept * len(data))].rpartition(b"\n")[0] + b"\n"
        (tmp_path / name).write_bytes(whole)
        num_rows = whole.count(b"\n") - (".jsonl" not in name)
        assert [row["id"] for row in _read(tmp_path / name)] == [f"s/{number}" for number in range(num_rows)]
        return
    with pytest.raises(ShardError, match=name):
        _read(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("id,text,site\n1,a,b\n2,only\n", r"part\.csv: row 1 has 2 values, the header 3 columns"),
        ('id,text,site\n1,"a"b,c\n', r"part\.csv: row 0 is not CSV"),
        ('id,text,site\n1,a,b\n2,"never closed,c\n', r"part\.csv: row 1 is not CSV"),
        ("id,body\n1,a\n", r"part\.csv: has no columns \['text', 'site'\], only \['id', 'body'\]"),
    ],
)
def test_a_bad_row_of_csv_is_named(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "part.csv").write_text(text)
    with pytest.raises(ShardError, match=reason):
        _read(tmp_path / "part.csv")


@pytest.mark.parametrize("name", ["part.csv", "part.jsonl", "part.txt"])
def test_what_is_not_utf8_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"id,text,site\n1,a,b\n2,\xff\xfe,c\n")
    reader = DocumentReader("s", 0, "text", format="text") if name.endswith(".txt") else READER
    with pytest.raises(ShardError, match=name):
        _read(tmp_path / name, reader)


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "part.csv").write_bytes(b"\xef\xbb\xbf" + _csv(ROWS))
    assert [row["text"] for row in _read(tmp_path / "part.csv")] == [row["text"] for row in ROWS]


def test_a_value_of_csv_may_be_long(tmp_path: Path) -> None:
    rows = [{"id": "1", "text": "x" * 1_000_000, "site": "s"}]
    (tmp_path / "part.csv").write_bytes(_csv(rows))
    assert [len(row["text"]) for row in _read(tmp_path / "part.csv")] == [1_000_000]


TEXT = "one\ntwo\n\n  \nthree\n four\n\n\nfive"
UNITS: dict[TextUnit, list[str]] = {
    "file": [TEXT],
    "line": ["one", "two", "three", " four", "five"],
    "block": ["one\ntwo", "three\n four", "five"],
}


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.md"])
def test_plain_text_by_file_line_or_block(tmp_path: Path, unit: TextUnit, name: str) -> None:
    data = TEXT.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    rows = _read(tmp_path / name, DocumentReader("s", 0, "text", key="file", format="text", unit=unit))
    assert [row["text"] for row in rows] == UNITS[unit]
    assert {row["key"] for row in rows} == {name}
    assert [row["id"] for row in rows] == [f"s/{name}:{number}" for number in range(len(rows))]


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), max_size=6))
@settings(max_examples=60)
def test_blocks_keep_all_but_white_space(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    path = tmp_path_factory.mktemp("blocks") / "a.txt"
    path.write_text("\n\n".join(lines), encoding="utf-8", newline="")
    read = _read(path, DocumentReader("s", 0, "text", format="text", unit="block"))
    kept = "".join("".join(row["text"].split()) for row in read)
    assert kept == "".join("".join(lines).lstrip("\ufeff").split())


def test_a_file_without_text_has_no_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" \n\n")
    for unit in UNITS:
        assert format_of("a.txt", "text", unit).columns(str(tmp_path / "a.txt")) is None
        assert _read(tmp_path / "a.txt", DocumentReader("s", 0, "text", format="text", unit=unit)) == []


def test_a_format_that_is_asked_for_takes_any_name(tmp_path: Path) -> None:
    (tmp_path / "shard-0").write_bytes(_bytes("a.csv", ROWS))
    (tmp_path / "more").mkdir()
    assert [shard.name for shard in find_shards("s", f"{tmp_path}/*", "csv")] == ["shard-0"]
    asked = DocumentReader("s", 0, "text", key="site", format="csv")
    assert [row["text"] for row in _read(tmp_path / "shard-0", asked)] == [row["text"] for row in ROWS]
    with pytest.raises(CorpusError, match=r"none of its 1 files ends in .*give `format` for files of other names"):
        find_shards("s", str(tmp_path / "shard-0"))


def test_a_template_makes_a_text_of_columns(tmp_path: Path) -> None:
    rows = [{"title": "T", "body": "b"}, {"title": None, "body": "b"}, {"title": None, "body": None}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = _read(tmp_path / "a.jsonl", DocumentReader("s", 0, "# {title}: {body} {{}}"))
    assert [row["text"] for row in read] == ["# T: b {}", "# : b {}", None]


@pytest.mark.parametrize("text", ["{title", "no column}", "{{}}", "{}", "{title!r}", "{title:>9}"])
def test_a_template_that_cannot_be_filled_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="text"):
        SourceSettings(name="s", url="u", text=text)


@pytest.mark.parametrize(
    ("given_settings", "reason"),
    [
        ({"builtin": "python_stdlib", "format": "csv"}, "leave `format` out"),
        ({"url": "u", "unit": "line"}, "give `format: text`"),
        ({"url": "u", "format": "csv", "unit": "line"}, "give `format: text`"),
    ],
)
def test_settings_that_say_nothing_are_refused(given_settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SourceSettings(name="s", **given_settings)


def test_formats_have_names_of_their_own() -> None:
    names: list[ShardFormat] = ["parquet", "arrow", "json_lines", "csv", "text"]
    suffixes = [suffix for name in names for suffix in format_of("", name).suffixes]
    assert len(suffixes) == len(set(suffixes))
