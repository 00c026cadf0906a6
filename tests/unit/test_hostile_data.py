"""Corpora, labelled sets and YAML from strangers: each is refused with one message, or does no harm."""

import gzip
import io
import json
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmcore.config.document import read_yaml
from llmcore.config.loading import load_config
from llmcore.config.pipeline import PipelineConfig
from llmcore.corpus.formats import FORMATS, format_of, opened
from llmcore.corpus.formats.base import MAX_CHARACTERS
from llmcore.errors import BadShardError, ConfigError
from llmcore.tasks.labelled import squad
from llmcore.tasks.labelled.squad import Squad
from tests.drivers import environment, run

NESTED = "[" * 100_000 + "]" * 100_000


def _rows(url: Path, *wanted: str, kind: Any = None) -> list[dict[str, Any]]:
    shards = kind or format_of(str(url), None)
    return [row for table in shards.tables(str(url), wanted or ("text",)) for row in table.to_pylist()]


@contextmanager
def _within_memory(most_bytes: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most_bytes, f"{peak:,}"


@pytest.fixture
def short_lines(monkeypatch: pytest.MonkeyPatch) -> int:
    """The bound of a line, lowered, so that a test need not write more than it."""
    most = 1 << 20
    monkeypatch.setattr(opened, "MAX_CHARACTERS", most)
    monkeypatch.setattr(squad, "_MOST_CHARACTERS", most)
    assert most < MAX_CHARACTERS
    return most


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".csv.gz", ".txt.gz", ".jsonl.zst"])
def test_a_bomb_is_a_line_without_end(tmp_path: Path, suffix: str, short_lines: int) -> None:
    bomb = tmp_path / f"bomb{suffix}"
    zeros = b"0" * (64 << 20)
    if suffix.endswith(".gz"):
        bomb.write_bytes(gzip.compress(zeros))
    else:
        bomb.write_bytes(pa.Codec("zstd").compress(zeros, asbytes=True))
    assert bomb.stat().st_size < 100_000
    kind = format_of(str(bomb), "text", "line", "bomb") if ".txt" in suffix else None
    del zeros
    with _within_memory(32 << 20), pytest.raises(BadShardError, match="characters"):
        _rows(bomb, kind=kind)


def test_a_bomb_of_short_lines_is_streamed(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.jsonl.gz"
    bomb.write_bytes(gzip.compress(b'{"text": "a"}\n' * 2_000_000))
    with _within_memory(64 << 20):
        first = next(iter(FORMATS["json_lines"].tables(str(bomb), ("text",))))
    assert first.num_rows == 4096


def test_squad_of_any_size(tmp_path: Path, short_lines: int) -> None:
    bomb = tmp_path / "squad.json.gz"
    bomb.write_bytes(gzip.compress(b'{"data": [' + b" " * (16 << 20) + b"]}"))
    with pytest.raises(BadShardError, match="characters"):
        _rows(bomb, "context", kind=Squad())


@pytest.mark.parametrize("value", [NESTED, '{"a":' * 50_000 + "1" + "}" * 50_000, '{"text": ' + NESTED + "}"])
def test_json_nested_without_end(tmp_path: Path, value: str) -> None:
    (tmp_path / "a.jsonl").write_text(value + "\n")
    with pytest.raises(BadShardError, match="nested too deeply"):
        _rows(tmp_path / "a.jsonl")
    (tmp_path / "a.json").write_text(value)
    with pytest.raises(BadShardError, match="nested too deeply"):
        _rows(tmp_path / "a.json", "context", kind=Squad())


@pytest.mark.parametrize("value", ["1" * 1_000_000, "1e999999", "-" + "9" * 5000])
def test_numbers_without_end(tmp_path: Path, value: str) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "a"})[:-1] + f', "n": {value}}}\n')
    started = time.monotonic()
    try:
        assert _rows(tmp_path / "a.jsonl")[0]["text"] == "a"
    except BadShardError as error:
        assert "not JSON" in str(error)
    assert time.monotonic() - started < 5


def test_cells_of_csv_are_texts_whatever_they_begin_with(tmp_path: Path) -> None:
    cells = ['=HYPERLINK("http://evil","x")', "+1+1", "@SUM(A1)", "-2", "'quoted'", 'a""b', "\x00", "a\rb"]
    stream = io.StringIO()
    stream.write("text\n")
    for cell in cells:
        stream.write('"' + cell.replace('"', '""') + '"\n')
    (tmp_path / "a.csv").write_bytes(stream.getvalue().encode())
    try:
        assert [row["text"] for row in _rows(tmp_path / "a.csv")] == cells
    except BadShardError as error:  # a byte that is no text
        assert "NUL" in str(error)


@pytest.mark.parametrize(
    "content", ['text\n"never closed\n', 'text\n"a"b"\n', "text,text2\na\n", 'text\n"\n' + "x" * 100]
)
def test_csv_that_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(BadShardError):
        _rows(tmp_path / "a.csv")


def _arrow() -> bytes:
    table = pa.table({"text": ["one", "two", None, "three"] * 50})
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": ["one", "two", None, "three"] * 50}), sink)
    return sink.getvalue()


@pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
def test_columns_with_any_byte_changed(tmp_path: Path, suffix: str) -> None:
    """In a process of its own: a reader that reads outside its buffers would end it."""
    good = _arrow() if suffix == ".arrow" else _parquet()
    script = tmp_path / "read.py"
    script.write_text(
        "import random, struct, sys\n"
        "from pathlib import Path\n"
        "from llmcore.corpus.formats import format_of\n"
        "from llmcore.errors import BadShardError\n"
        "good, file = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])\n"
        "wild = [bytes(8), b'\\xff' * 8]\n"
        "wild += [struct.pack('<q', 1 << 40), struct.pack('<q', -8), struct.pack('<i', 1 << 30)]\n"
        "chance = random.Random(0)\n"
        "bad = 0\n"
        "for number in range(400):\n"
        "    place, what = chance.randrange(len(good)), chance.choice(wild)\n"
        "    data = good[:place] + what + good[place + len(what):] if number % 4 else good[:place]\n"
        "    file.write_bytes(data)\n"
        "    try:\n"
        "        for table in format_of(str(file), None).tables(str(file), ('text',)):\n"
        "            table.to_pylist()\n"
        "    except (BadShardError, UnicodeDecodeError):\n"
        "        bad += 1\n"
        "print(bad)\n"
    )
    (tmp_path / "good").write_bytes(good)

    ended = run(
        [sys.executable, str(script), str(tmp_path / "good"), str(tmp_path / f"bad{suffix}")],
        cwd=tmp_path,
        env=environment(),
        timeout_s=200,
    )
    assert ended.code == 0, (ended.code, ended.err[-2000:])
    assert int(ended.out) > 50


@pytest.mark.parametrize("suffix", [".arrow", ".parquet", ".jsonl.zst", ".jsonl.gz"])
@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 64, b"ARROW1\x00\x00" + b"\xff" * 64, b"PAR1" + b"\xff" * 64 + b"PAR1"]
)
def test_files_that_are_something_else(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"a{suffix}").write_bytes(content)
    try:
        assert _rows(tmp_path / f"a{suffix}") == []
    except BadShardError as error:
        assert f"a{suffix}" in str(error)


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(f'*{old}' for _ in range(9))}]\n"
    for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)
MERGES = "a: &a {k: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join(f'*{old}' for _ in range(9))}]}}\n"
    for old, new in zip("abcdefghijkl", "bcdefghijklm", strict=True)
)


@pytest.mark.parametrize("text", [LAUGHS, MERGES])
def test_a_billion_laughs(text: str, tmp_path: Path) -> None:
    started = time.monotonic()
    [(line, message)] = read_yaml(text).mistakes
    assert line == 1 and "aliases unfolded" in message and time.monotonic() - started < 2
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match="aliases unfolded"):
        load_config(PipelineConfig, tmp_path / "a.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "name: !!python/object/apply:os.system ['touch /tmp/llmcore-yaml']",
        "name: !!python/name:os.system",
        "name: !include /etc/passwd",
        "? [a, b]\n: 1",
        "[" * 100_000,
        "a: " + "{a: " * 50_000,
        "a: &a {b: *a}",
    ],
)
def test_yaml_makes_plain_values_alone(text: str, tmp_path: Path) -> None:
    trace = Path("/tmp/llmcore-yaml")
    trace.unlink(missing_ok=True)
    assert read_yaml(text).mistakes
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError):
        load_config(PipelineConfig, tmp_path / "a.yaml")
    assert not trace.exists()
