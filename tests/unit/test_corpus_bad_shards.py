"""Shards that cannot be read: each is named with its row, and where that is asked for, left out whole."""

import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmcore.config.cleaning import CleaningSettings
from llmcore.corpus.cleaned import CleanedShards
from llmcore.corpus.formats import opened
from llmcore.corpus.read import DocumentReader
from llmcore.corpus.shards import find_shards
from llmcore.errors import BadShardError, CorpusError, ShardError
from llmcore.storage import Folder

READER = DocumentReader("s", 0, "text", key="site")
NUM_ROWS = 9000


def _parquet(path: Path, **columns: Any) -> None:
    made = {"text": [f"text {n} " * 5 for n in range(NUM_ROWS)], "site": [f"s{n % 7}" for n in range(NUM_ROWS)]}
    table = pa.table(made | columns)
    pq.write_table(table, path, compression="zstd", row_group_size=4096, write_page_checksum=True)


def _lines(path: Path, bad: bytes) -> None:
    good = b"".join(json.dumps({"text": f"text {n}", "site": "a"}).encode() + b"\n" for n in range(NUM_ROWS))
    data = good + bad
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)


def _flip(path: Path) -> None:
    _parquet(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def _truncate(path: Path) -> None:
    _parquet(path)
    path.write_bytes(path.read_bytes()[:-200])


def _tear(path: Path) -> None:
    _lines(path, b"")
    path.write_bytes(path.read_bytes()[:-50])


def _bad_bytes(path: Path) -> None:
    texts = pa.array([b"fine", b"caf\xe9"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": texts, "site": ["a", "b"]}), path)


Damage = tuple[str, Callable[[Path], None], str]
DAMAGED: dict[str, Damage] = {
    "truncated Parquet": ("b.parquet", _truncate, "cannot be read from row 0 on"),
    "bit-flipped Parquet": ("b.parquet", _flip, r"cannot be read from row \d+ on"),
    "Parquet of no bytes": ("b.parquet", lambda path: path.touch(), "cannot be read from row 0 on"),
    "bad UTF-8 in Parquet": ("b.parquet", _bad_bytes, "cannot be read from row 0 on .*UTF8"),
    "a missing column": (
        "b.parquet",
        lambda path: pq.write_table(pa.table({"body": ["x"], "site": ["a"]}), path),
        r"has no columns \['text'\], only \['body', 'site'\]",
    ),
    "a retyped column": (
        "b.parquet",
        lambda path: pq.write_table(pa.table({"text": [1, 2], "site": ["a", "b"]}), path),
        "column 'text' is int64, where text is expected",
    ),
    "a list for a text": (
        "b.jsonl",
        lambda path: _lines(path, b'{"text": ["a"], "site": "b"}\n'),
        rf"row {NUM_ROWS} has text=\['a'\], where text is expected",
    ),
    "a torn line": ("b.jsonl", lambda path: _lines(path, b'{"text": "to'), rf"row {NUM_ROWS} is not JSON"),
    "a line without the column": (
        "b.jsonl.gz",
        lambda path: _lines(path, b'{"site": "b"}\n'),
        rf"row {NUM_ROWS} has no \['text'\]",
    ),
    "bad UTF-8 in a line": (
        "b.jsonl",
        lambda path: _lines(path, b'{"text": "caf\xe9", "site": "b"}\n'),
        r"cannot be read from row \d+ on .*utf-8",
    ),
    "torn gzip": (
        "b.jsonl.gz",
        _tear,
        r"cannot be read from row \d+ on",
    ),
    "half a surrogate pair": (
        "b.jsonl",
        lambda path: _lines(path, b'{"text": "\\ud83d", "site": "b"}\n'),
        rf"row {NUM_ROWS} has half a surrogate pair",
    ),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_bad_shard_is_named_and_in_quarantine_left_out_whole(tmp_path: Path, damage: Damage) -> None:
    name, write, message = damage
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    _lines(corpus / "a.jsonl", b"")
    write(corpus / name)
    _lines(corpus / "c.jsonl", b"")
    good, bad, other = find_shards("s", str(corpus))
    with pytest.raises(BadShardError, match=rf"{name}: .*{message}"):
        list(READER.read(bad, 1))
    cleaned = CleanedShards(Folder(str(tmp_path / "runs")), READER, CleaningSettings(), quarantine=True)
    counts = [sum(table.num_rows for table in cleaned.read(shard, 0)) for shard in (good, bad, other)]
    assert counts == [NUM_ROWS, 0, NUM_ROWS], "what stands before the damage is not used either"
    quarantined = cleaned.tally(bad).quarantined
    assert list(quarantined) == [name] and name in quarantined[name]
    assert not cleaned.tally(good).quarantined


def test_what_is_no_damage(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"text": pa.array([], pa.string()), "site": pa.array([], pa.string())}), tmp_path / "0.parquet"
    )
    pq.write_table(pa.table({"text": ["x", None], "site": pa.nulls(2)}), tmp_path / "nulls.parquet")
    (tmp_path / "none.jsonl").write_bytes(b"")
    texts = [
        [row["text"] for table in READER.read(shard, 0) for row in table.to_pylist()]
        for shard in find_shards("s", str(tmp_path))
    ]
    assert texts == [[], [], ["x", None]]


def test_a_document_of_100_megabytes_is_read(tmp_path: Path) -> None:
    text = "word " * 20_000_000
    (tmp_path / "large.jsonl").write_text(json.dumps({"text": text, "site": "a"}) + "\n")
    (shard,) = find_shards("s", str(tmp_path))
    (table,) = READER.read(shard, 0)
    assert table["text"][0].as_py() == text


@pytest.mark.parametrize("name", ["b.jsonl.gz", "b.csv.gz", "b.txt.gz"])
def test_a_line_without_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for module in (
        opened,
        *(__import__(f"llmcore.corpus.formats.{kind}", fromlist=["x"]) for kind in ("records", "text")),
    ):
        monkeypatch.setattr(module, "MAX_CHARACTERS", 1 << 20)
    (tmp_path / name).write_bytes(gzip.compress(b"text,site\n" * (".csv" in name) + b"a" * 100_000_000, 1))
    (shard,) = find_shards("s", str(tmp_path / name), "text" if ".txt" in name else None)
    reader = DocumentReader("s", 0, "text", format="text" if ".txt" in name else None)
    tracemalloc.start()
    with pytest.raises(ShardError, match=rf"{name}: .*(more than 1,048,576 characters|field larger than field limit)"):
        list(reader.read(shard, 0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6


def test_what_may_pass_is_not_put_in_quarantine(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    _lines(path, b"")
    (shard,) = find_shards("s", str(path))
    path.unlink()
    cleaned = CleanedShards(Folder(str(tmp_path / "runs")), READER, CleaningSettings(), quarantine=True)
    with pytest.raises(ShardError, match=r"a\.jsonl: cannot be read") as caught:
        list(cleaned.read(shard, 0))
    assert not isinstance(caught.value, BadShardError)


def test_a_link_that_leads_out_of_the_corpus_is_refused(tmp_path: Path) -> None:
    outside = tmp_path / "secret.jsonl"
    _lines(outside, b"")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    _lines(corpus / "a.jsonl", b"")
    (corpus / "linked.jsonl").symlink_to(corpus / "a.jsonl")
    assert len(find_shards("s", str(corpus))) == 2, "a link inside is none that leads out"
    (corpus / "b.jsonl").symlink_to(outside)
    for url in (str(corpus), f"{corpus}/*.jsonl", f"file://{corpus}"):
        with pytest.raises(CorpusError, match=r"b\.jsonl leads out of url=.*/secret\.jsonl"):
            find_shards("s", url)
    (tmp_path / "whole").symlink_to(corpus / "a.jsonl")
    assert find_shards("s", str(tmp_path / "whole"), "json_lines"), "what the URL names itself may be a link"
