"""Complete or absent: a manifest proves itself and its files, in every byte and at every length."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcore.errors import CheckpointError, StorageError
from llmcore.storage import (
    MANIFEST,
    FileEntry,
    Folder,
    publish,
    read_manifest,
    verify_files,
    write_file,
    write_manifest,
)

NAMES = st.text("abcü0.-_", min_size=1, max_size=8).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ABOUT = st.dictionaries(st.text(max_size=6), PLAIN, max_size=3)


def memory() -> Folder:
    return Folder(f"memory://{uuid4().hex}")


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(str(tmp_path / "x")) if request.param == "disk" else memory()
    yield folder
    folder.delete()


def published(folder: Folder) -> None:
    with publish(folder, "tokens", {"num_rows": 3, "sources": ["a", "b"]}) as publication:
        publication.write_bytes("train/part-00000", b"some rows")
        publication.write_bytes("empty", b"")


@given(st.dictionaries(PATHS, st.binary(max_size=20), max_size=4), ABOUT, st.text(max_size=6))
@settings(max_examples=30, deadline=None)
def test_what_is_published_is_what_is_read(files: dict[str, bytes], about: dict[str, object], kind: str) -> None:
    folder = memory()
    entries = [FileEntry(name, len(data), "0" * 64) for name, data in files.items()]
    manifest = write_manifest(folder, kind, entries, about)
    assert read_manifest(folder) == manifest
    assert (manifest.kind, manifest.about, set(manifest.files)) == (kind, about, set(files))
    assert write_manifest(memory(), kind, reversed(entries), about) == manifest  # in whatever order they came


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_manifest_altered_in_any_byte_is_absent(data: st.DataObject) -> None:
    folder = memory()
    published(folder)
    good = folder.read_bytes(MANIFEST)
    place = data.draw(st.integers(0, len(good) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != good[place]))
    folder.write_bytes(MANIFEST, good[:place] + bytes([other]) + good[place + 1 :])
    assert read_manifest(folder) is None


def test_a_manifest_torn_at_any_length_is_absent() -> None:
    folder = memory()
    published(folder)
    good = folder.read_bytes(MANIFEST)
    for length in range(len(good)):
        folder.write_bytes(MANIFEST, good[:length])
        assert read_manifest(folder) is None, length
    for more in (b"\n", b" ", b"x", good):
        folder.write_bytes(MANIFEST, good + more)
        assert read_manifest(folder) is None
    folder.write_bytes(MANIFEST, good)
    assert read_manifest(folder) is not None


@pytest.mark.parametrize(
    "data", [b"[]", b"null", b"{}", b'{"files": 3}', b"[" * 100_000, b"\xff\xfe", b'{"files": {"a": 1}}']
)
def test_what_is_no_manifest_is_absent(folder: Folder, data: bytes) -> None:
    folder.write_bytes(MANIFEST, data)
    assert read_manifest(folder) is None


def test_a_manifest_whose_names_leave_the_folder_is_absent() -> None:
    good, bad = memory(), memory()
    write_manifest(good, "x", [FileEntry("aa/b", 0, "0" * 64)], {})
    bad.write_bytes(MANIFEST, good.read_bytes(MANIFEST).replace(b"aa/b", b"../b"))
    assert read_manifest(bad) is None


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_file_altered_or_torn_is_named(data: st.DataObject) -> None:
    folder = memory()
    content = data.draw(st.binary(min_size=1, max_size=50))
    with publish(folder, "x", {}) as publication:
        publication.write_bytes("good", b"good")
        publication.write_bytes("bad", content)
    manifest = read_manifest(folder)
    assert manifest is not None
    verify_files(folder, manifest)
    place = data.draw(st.integers(0, len(content) - 1))
    flipped = content[:place] + bytes([content[place] ^ 1 << data.draw(st.integers(0, 7))]) + content[place + 1 :]
    folder.write_bytes("bad", data.draw(st.sampled_from([flipped, content[:place], content + b"\0"])))
    with pytest.raises(CheckpointError, match=r"/bad is not what its manifest says"):
        verify_files(folder, manifest)


def test_a_missing_file_is_named(folder: Folder) -> None:
    published(folder)
    manifest = read_manifest(folder)
    assert manifest is not None
    folder.delete("empty")
    with pytest.raises(CheckpointError, match=r"/empty cannot be verified: .* does not exist"):
        verify_files(folder, manifest)


def test_the_manifest_is_written_last_and_an_error_publishes_nothing(folder: Folder) -> None:
    with pytest.raises(ZeroDivisionError), publish(folder, "x", {}) as publication:
        publication.write_bytes("a", b"1")
        assert read_manifest(folder) is None
        _ = 1 // 0
    assert read_manifest(folder) is None


def test_publishing_again_is_absent_meanwhile(folder: Folder) -> None:
    published(folder)
    with publish(folder, "x", {}) as publication:
        assert read_manifest(folder) is None
        publication.write_bytes("a", b"2")
        publication.about["num_rows"] = 7
    manifest = read_manifest(folder)
    assert manifest is not None and manifest.about == {"num_rows": 7} and list(manifest.files) == ["a"]


def test_staged_files_are_published_when_the_block_ends_well(folder: Folder) -> None:
    with publish(folder, "model", {}) as publication, publication.staging() as staged:
        (staged / "sub").mkdir()
        (staged / "sub" / "b").write_bytes(b"b" * 3_000_000)
        (staged / "a").write_bytes(b"a")
        assert folder.walk() == []
    manifest = read_manifest(folder)
    assert manifest is not None and list(manifest.files) == ["a", "sub/b"]
    verify_files(folder, manifest)
    assert folder.walk() == ["a", MANIFEST, "sub/b"] and not staged.exists()


def test_a_failed_staging_leaves_nothing(folder: Folder) -> None:
    with pytest.raises(ZeroDivisionError), publish(folder, "x", {}) as publication, publication.staging() as staged:
        (staged / "a").write_bytes(b"a")
        _ = 1 // 0
    assert folder.walk() == [] and not staged.exists()


def test_ranks_write_files_and_one_writes_the_manifest(folder: Folder, tmp_path: Path) -> None:
    source = tmp_path / "fragment"
    source.write_bytes(os.urandom(2_500_000))
    entries = [write_file(folder, "rank-0", source), write_file(folder, "rank-1", source.read_bytes())]
    assert entries[0].sha256 == entries[1].sha256 and entries[0].size == entries[1].size == 2_500_000
    assert read_manifest(folder) is None
    verify_files(folder, write_manifest(folder, "checkpoint", entries, {"step": 3}))


@pytest.mark.parametrize("names", [["a", "a"], [MANIFEST], ["../a"]])
def test_entries_need_names_of_their_own(folder: Folder, names: list[str]) -> None:
    with pytest.raises(StorageError, match="name"):
        write_manifest(folder, "x", [FileEntry(name, 0, "0" * 64) for name in names], {})
    assert read_manifest(folder) is None


def test_a_remote_folder_is_copied_once_whoever_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCORE_CACHE", str(tmp_path / "cache"))
    folder = memory()
    published(folder)
    with ThreadPoolExecutor(6) as pool:
        copies = set(pool.map(lambda _: folder.as_local(), range(12)))
    assert len(copies) == 1
    copy = copies.pop()
    manifest = read_manifest(folder)
    assert manifest is not None and manifest == read_manifest(Folder(str(copy)))
    verify_files(Folder(str(copy)), manifest)
    before = (copy / "train" / "part-00000").stat().st_ino
    assert folder.as_local() == copy and (copy / "train" / "part-00000").stat().st_ino == before
    assert threading.active_count() < 20


def test_a_copy_that_lost_a_file_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCORE_CACHE", str(tmp_path / "cache"))
    folder = memory()
    published(folder)
    (folder.as_local() / "train" / "part-00000").write_bytes(b"torn")
    assert (folder.as_local() / "train" / "part-00000").read_bytes() == b"some rows"


def test_what_is_not_published_or_altered_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCORE_CACHE", str(tmp_path / "cache"))
    folder = memory()
    folder.write_bytes("a", b"1")
    with pytest.raises(StorageError, match="is not published"):
        folder.as_local()
    published(folder)
    folder.write_bytes("train/part-00000", b"some rowz")
    with pytest.raises(CheckpointError, match="train/part-00000 is not what"):
        folder.as_local()
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]
