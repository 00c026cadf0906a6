import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from llmcore.config.cleaning import CleaningSettings
from llmcore.corpus.cleaned import CleanedShards
from llmcore.corpus.read import DocumentReader
from llmcore.corpus.shards import Shard, find_shards
from llmcore.errors import ShardError
from llmcore.storage import Folder

READER = DocumentReader("s", 0, "text", key="site")
STEPS = CleaningSettings.model_validate({"unicode": {}, "length": {"min_characters": 3}})


def _write(path: Path, texts: list[str]) -> Shard:
    lines = "".join(json.dumps({"text": text, "site": "a"}) + "\n" for text in texts)
    path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())
    (shard,) = find_shards("s", str(path))
    return shard


def _read(cleaned: CleanedShards, shard: Shard, number: int = 0) -> list[dict[str, Any]]:
    return [row for table in cleaned.read(shard, number) for row in table.to_pylist()]


@pytest.fixture
def storage(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "storage"))


def test_what_was_cleaned_is_not_cleaned_again(tmp_path: Path, storage: Folder) -> None:
    shard = _write(tmp_path / "a.jsonl", ["e\u0301t", "x", "word"])
    first = _read(CleanedShards(storage, READER, STEPS), shard, 4)
    assert [(row["text"], row["id"], row["shard"], row["key"]) for row in first] == [("word", "s/a.jsonl:2", 4, "a")]
    (tmp_path / "a.jsonl").unlink()
    cleaned = pickle.loads(pickle.dumps(CleanedShards(storage, READER, STEPS)))
    assert _read(cleaned, shard, 4) == first
    other_place = CleanedShards(storage, DocumentReader("s", 7, "text", key="site"), STEPS)
    assert [(row["source"], row["shard"]) for row in _read(other_place, shard, 9)] == [(7, 9)]
    tally = cleaned.tally(shard)
    assert (tally.documents, tally.steps["length"].dropped, tally.steps["unicode"].found) == (
        3,
        {"too_short": 2},
        {"normalized": 1},
    )


@pytest.mark.parametrize("what", ["the bytes", "a step", "the columns", "the metadata", "the first documents"])
def test_another_input_is_cleaned_by_itself(tmp_path: Path, storage: Folder, what: str) -> None:
    shard, steps, reader = _write(tmp_path / "a.jsonl", ["aaa", "bbbb"]), STEPS, READER
    _read(CleanedShards(storage, reader, steps), shard)
    if what == "the bytes":
        shard = _write(tmp_path / "a.jsonl", ["aaa", "bbbb", "ccccc"])
    elif what == "a step":
        steps = CleaningSettings.model_validate({"length": {"min_characters": 4}})
    elif what == "the columns":
        reader = DocumentReader("s", 0, "text")
    elif what == "the metadata":
        reader = DocumentReader("s", 0, "text", key="site", metadata=("site",))
    else:
        (shard,) = reader.first([shard], 1)
    found = _read(CleanedShards(storage, reader, steps), shard)
    assert [row["text"] for row in found] == {
        "the bytes": ["aaa", "bbbb", "ccccc"],
        "a step": ["bbbb"],
        "the columns": ["aaa", "bbbb"],
        "the metadata": ["aaa", "bbbb"],
        "the first documents": ["aaa"],
    }[what]
    assert {row["metadata"] for row in found} == ({'{"site": "a"}'} if what == "the metadata" else {None})
    assert len((storage / "artifacts/cleaned").names()) == 2


def test_a_shard_that_was_cleaned_in_part_is_absent(tmp_path: Path, storage: Folder) -> None:
    shard = _write(tmp_path / "a.jsonl", [f"text {number}" for number in range(20_000)])
    cleaned = CleanedShards(storage, READER, STEPS)
    reading = cleaned.read(shard, 0)
    next(iter(reading))
    reading.close()  # type: ignore[attr-defined]  # a generator, as when its task is killed
    with pytest.raises(ShardError, match=r"a\.jsonl: what was cleaned of it, .* is gone"):
        cleaned.tally(shard)
    assert len(_read(cleaned, shard)) == 20_000 == cleaned.tally(shard).documents


def test_an_altered_part_is_named(tmp_path: Path, storage: Folder) -> None:
    shard = _write(tmp_path / "a.jsonl", ["some text"])
    cleaned = CleanedShards(storage, READER, STEPS)
    _read(cleaned, shard)
    (part,) = (tmp_path / "storage").rglob("part-00000.arrow")
    part.write_bytes(part.read_bytes()[:40])
    with pytest.raises(ShardError, match=r"part-00000\.arrow is altered"):
        _read(cleaned, shard)


def test_the_first_documents_are_those_of_the_first_shards(tmp_path: Path) -> None:
    shards = [_write(tmp_path / f"{name}.jsonl.gz", [f"{name}{number}" for number in range(5)]) for name in "abc"]
    for wanted in (1, 4, 5, 7, 10, 14, 15, 20):
        chosen = list(READER.first(shards, wanted))
        rows = [row["text"] for shard in chosen for table in READER.read(shard, 0) for row in table.to_pylist()]
        assert rows == [f"{name}{number}" for name in "abc" for number in range(5)][:wanted]
    assert list(READER.first(shards, 20)) == shards, "whole shards are the same as without a limit"
