"""Documents of raw shards, a window at a time: the same from any window on."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcore.config.cleaning import CleaningSettings
from llmcore.corpus.decontaminate import Protected
from llmcore.corpus.dedup import text_digests
from llmcore.corpus.portions import Cursor, DocumentWindow, HeldOut, Portion, PortionReader, portions_of
from llmcore.corpus.read import DocumentReader
from llmcore.corpus.shards import Shard, find_shards
from llmcore.errors import BadShardError, ShardError

NOTHING = CleaningSettings()


def write(folder: Path, shards: Sequence[Sequence[str | None]]) -> list[Shard]:
    folder.mkdir(parents=True, exist_ok=True)
    for number, texts in enumerate(shards):
        lines = "".join(json.dumps({"text": text, "key": text and text[:1]}) + "\n" for text in texts)
        (folder / f"part-{number:03d}.jsonl").write_text(lines)
    return find_shards("s", str(folder))


def whole(shards: Sequence[Shard]) -> Portion:
    return Portion(0, tuple(shards), tuple(range(len(shards))))


def reader_of(window_bytes: int = 20, **changes: object) -> PortionReader:
    return PortionReader(DocumentReader("s", 0, "text"), NOTHING, window_bytes, **changes)  # type: ignore[arg-type]


def texts_of(window: DocumentWindow) -> list[str]:
    return window.documents["text"].to_pylist()  # type: ignore[no-any-return]


@given(sizes=st.lists(st.integers(0, 40), max_size=30), least=st.integers(1, 60), seed=st.integers(0, 5))
def test_each_shard_is_in_one_portion_and_only_the_last_is_small(sizes: list[int], least: int, seed: int) -> None:
    shards = [Shard(f"/{number}", str(number), size, "") for number, size in enumerate(sizes)]
    portions = portions_of(3, shards, least, seed)
    assert sorted(number for portion in portions for number in portion.numbers) == list(range(len(sizes)))
    for portion in portions:
        assert portion.source == 3 and portion.shards == tuple(shards[number] for number in portion.numbers)
    for portion in portions[:-1]:
        assert sum(shard.size for shard in portion.shards) >= least
        assert sum(shard.size for shard in portion.shards[:-1]) < least


@given(
    shards=st.lists(st.lists(st.text("ab", min_size=1, max_size=30), max_size=6), min_size=1, max_size=4),
    window_bytes=st.integers(1, 60),
)
@settings(deadline=None, max_examples=30)
def test_windows_have_each_document_once_and_are_the_same_from_any_of_them_on(
    shards: list[list[str]], window_bytes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    portion = whole(write(tmp_path_factory.mktemp("corpus"), shards))
    reader = reader_of(window_bytes)
    windows = list(reader.windows(portion))
    assert [text for window in windows for text in texts_of(window)] == [text for texts in shards for text in texts]
    for window in windows[:-1]:
        sizes = [len(text) for text in texts_of(window)]
        assert sum(sizes) >= window_bytes > sum(sizes[:-1]), "a window ends with the document that fills it"
    assert [window.next is None for window in windows] == [False] * (len(windows) - 1) + [True]
    for number, window in enumerate(windows[:-1]):
        assert window.next is not None
        later = list(reader.windows(portion, window.next))
        assert [texts_of(one) for one in later] == [texts_of(one) for one in windows[number + 1 :]]


def test_what_is_held_out_and_what_is_empty_is_left_out_and_counted(tmp_path: Path) -> None:
    row = "one two three four five six seven eight nine ten"
    texts = ["a plain one", None, "", "held out", f"before {row} after", "keyed"]
    held_out = HeldOut(frozenset(), frozenset(text_digests(["held out"], 7))).protecting(
        Protected.of("set", pa.array([row]), ngram_words=5, min_words=5), 0.5
    )
    portion = whole(write(tmp_path, [texts]))
    (window,) = reader_of(1000, held_out=held_out, seed=7).windows(portion)
    assert texts_of(window) == ["a plain one", "keyed"]
    dropped = {name: dict(step.dropped) for name, step in window.tally.steps.items()}
    assert dropped == {"held_out": {"empty": 2, "validation": 1}, "decontaminate": {"contaminated": 1}}
    keyed = DocumentReader("s", 0, "text", key="key")
    reader = PortionReader(keyed, NOTHING, 1000, HeldOut(keys=frozenset("k")))
    assert "keyed" not in texts_of(next(reader.windows(portion)))


def test_a_shard_that_was_changed_since_it_was_listed_stops_the_reading(tmp_path: Path) -> None:
    shards = write(tmp_path, [["one", "two"]])
    path = tmp_path / "part-000.jsonl"
    path.write_text(path.read_text() + json.dumps({"text": "three", "key": "t"}) + "\n")
    with pytest.raises(ShardError, match=r"part-000.jsonl: is not the file that was listed \(\d+ bytes"):
        list(reader_of().windows(whole(shards)))
    path.unlink()
    with pytest.raises(ShardError, match="was listed, and cannot be looked at any more"):
        list(reader_of().windows(whole(shards)))


def test_of_a_bad_shard_nothing_is_used_after_the_bad_row_or_it_stops_the_reading(tmp_path: Path) -> None:
    write(tmp_path, [["one", "two"], ["three", "four"], ["five"]])
    path = tmp_path / "part-001.jsonl"
    path.write_text(path.read_text() + '{"text": "to')
    shards = find_shards("s", str(tmp_path))
    portion = whole(shards)
    with pytest.raises(BadShardError, match=r"part-001.jsonl: row 2 is not JSON"):
        list(reader_of().windows(portion))
    windows = list(reader_of(1000, pass_bad=True).windows(portion))
    assert [text for window in windows for text in texts_of(window)][:2] == ["one", "two"]
    assert texts_of(windows[-1])[-1] == "five"
    assert list(windows[-1].tally.quarantined) == ["part-001.jsonl"]


def test_a_window_may_end_with_its_portion(tmp_path: Path) -> None:
    first, last = reader_of(20).windows(whole(write(tmp_path, [["x" * 20]])))
    assert texts_of(first) == ["x" * 20] and first.next == Cursor(0, 1)
    assert texts_of(last) == [] and last.next is None
