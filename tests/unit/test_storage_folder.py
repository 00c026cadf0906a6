"""Folders: the same on a disk and in an object store, and errors that say what happened."""

import errno
import os
import pickle
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from llmcore.errors import StorageError
from llmcore.storage import Folder, artifact, canonical_json, check_writable, content_hash, resolve_storage


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(str(tmp_path) if request.param == "disk" else f"memory://{uuid4().hex}")
    yield folder
    folder.delete()


def test_what_is_written_is_read(folder: Folder) -> None:
    folder.write_bytes("a", b"\x00\xff")
    folder.write_text("b/ü.txt", "Grüße\n")
    folder.write_json("b/c.json", {"z": [1, None], "a": 0.1})
    assert folder.read_bytes("a") == b"\x00\xff"
    assert (folder / "b").read_text("ü.txt") == "Grüße\n"
    assert folder.read_json("b/c.json") == {"z": [1, None], "a": 0.1}
    assert folder.walk() == ["a", "b/c.json", "b/ü.txt"]
    assert folder.names() == ["a", "b"]
    assert folder.exists() and folder.exists("b/c.json") and folder.exists("b") and not folder.exists("c")


def test_json_keeps_the_order_of_its_keys_and_ends_with_a_newline(folder: Folder) -> None:
    folder.write_json("x.json", {"z": 1, "a": 2})
    assert folder.read_text("x.json") == '{\n  "z": 1,\n  "a": 2\n}\n'


def test_absent_things_are_none_or_empty_or_an_error_that_names_the_url(folder: Folder) -> None:
    assert folder.find_bytes("no") is None and folder.find_json("no/no") is None
    assert (folder / "no").names() == [] and (folder / "no").walk() == []
    (folder / "no").delete()
    for read in (folder.read_bytes, folder.read_text, folder.read_json):
        with pytest.raises(StorageError, match=f"{folder.url}/no does not exist"):
            read("no")
    with pytest.raises(StorageError, match="does not exist"), folder.open("no"):
        pass


def test_a_torn_record_is_absent_and_reading_it_by_name_says_why(folder: Folder) -> None:
    folder.write_bytes("end.json", b'{"status": "succ')
    assert folder.find_json("end.json") is None
    with pytest.raises(StorageError, match=r"end\.json cannot be read as JSON"):
        folder.read_json("end.json")


def test_delete_takes_a_file_or_a_whole_folder(folder: Folder) -> None:
    for name in ("a", "b/c", "b/d/e"):
        folder.write_bytes(name, b"1")
    folder.delete("a")
    (folder / "b" / "d").delete()
    assert folder.walk() == ["b/c"]
    folder.delete()
    assert not folder.exists() and folder.names() == []


def test_create_is_conditional(folder: Folder) -> None:
    assert folder.create_bytes("x/begin", b"mine")
    assert not folder.create_bytes("x/begin", b"yours")
    assert folder.read_bytes("x/begin") == b"mine"
    assert folder.walk() == ["x/begin"]


def test_of_many_creators_one_wins_and_its_bytes_stay(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: folder.create_bytes("begin", b"%d" % number * 1000), range(64)))
    assert won.count(True) == 1
    assert folder.read_bytes("begin") == b"%d" % won.index(True) * 1000


def test_create_stays_exclusive_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refused)
    folder = Folder(str(tmp_path))
    assert folder.create_bytes("begin", b"mine") and not folder.create_bytes("begin", b"yours")
    assert folder.read_bytes("begin") == b"mine" and [path.name for path in tmp_path.iterdir()] == ["begin"]


def test_a_stream_that_fails_leaves_nothing_and_spoils_nothing(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.write_bytes("kept", b"old")
    for name in ("kept", "new"):
        with pytest.raises(ZeroDivisionError), folder.open(name, "wb") as file:
            file.write(b"half")
            _ = 1 // 0
    assert folder.walk() == ["kept"] and folder.read_bytes("kept") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_remote_stream_that_fails_leaves_nothing() -> None:
    folder = Folder(f"memory://{uuid4().hex}")
    with pytest.raises(ZeroDivisionError), folder.open("new", "wb") as file:
        file.write(b"half")
        _ = 1 // 0
    assert folder.walk() == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told_with_url_and_reason_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel itself says ENOSPC: what is written beside goes to /dev/full."""
    folder = Folder(str(tmp_path / "run"))
    folder.write_bytes("end.json", b"{}")
    opened = Path.open

    def full(self: Path, mode: str = "r", *rest: object, **more: object) -> object:
        return opened(Path("/dev/full"), "wb") if mode == "xb" else opened(self, mode, *rest, **more)  # type: ignore

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(StorageError, match=r"run/end\.json cannot be written: No space left on device"):
        folder.write_bytes("end.json", b"x" * 100_000)
    with pytest.raises(StorageError, match="No space left"), folder.open("big", "wb") as file:
        file.write(b"x" * 10_000_000)
    with pytest.raises(StorageError, match="No space left"), folder.open("small", "wb") as file:
        file.write(b"x")  # Noticed only when the buffer is flushed at the end.
    monkeypatch.undo()
    assert folder.walk() == ["end.json"] and folder.read_bytes("end.json") == b"{}"


def test_what_a_killed_writer_left_beside_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / ".tmp-0123" / "sub").mkdir(parents=True)
    (tmp_path / ".tmp-0123" / "sub" / "half").write_bytes(b"1")
    (tmp_path / ".tmp-4567").write_bytes(b"1")
    (tmp_path / ".gitignore").write_bytes(b"1")
    assert Folder(str(tmp_path)).names() == Folder(str(tmp_path)).walk() == [".gitignore"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/../b", "/etc", "a//b", "a/", "a\\b"])
def test_names_stay_inside_their_folder(name: str) -> None:
    with pytest.raises(StorageError, match="no name inside a folder"):
        Folder("/x") / name
    with pytest.raises(StorageError):
        Folder("/x").write_bytes(name or "..", b"")


def test_folders_are_plain_data() -> None:
    folder = Folder("s3://bucket/runs/") / "tiny"
    assert pickle.loads(pickle.dumps(folder)) == folder == Folder("s3://bucket/runs/tiny")
    assert str(folder) == folder.url and hash(folder) == hash(Folder("s3://bucket/runs/tiny"))
    assert Folder("/a/b").local_path() == Path("/a/b") == Folder("file:///a/b").as_local()
    assert Folder("memory://a").local_path() is None
    assert Folder("/a/b").name == Folder("memory://a/b").name == "b"


def test_a_storage_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert resolve_storage("runs", inside_ray_job=False).url == str(tmp_path / "runs")
    assert resolve_storage("~/runs", inside_ray_job=True).url == "/home/someone/runs"
    assert resolve_storage("file:///x/y/", inside_ray_job=True).url == "/x/y"
    assert resolve_storage("memory://x/y", inside_ray_job=True).url == "memory://x/y"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("runs", r"storage='runs' is relative: inside a Ray job .* give an absolute path"),
        ("./runs", "relative"),
        ("file://runs", "relative"),
        ("memory://", "names no bucket"),
        ("nosuch://bucket/x", "no storage URL that fsspec knows"),
        ("simplecache::memory://x", "chains file systems"),
    ],
)
def test_what_cannot_be_a_storage_is_refused_with_the_fix(url: str, says: str) -> None:
    with pytest.raises(StorageError, match=says) as caught:
        resolve_storage(url, inside_ray_job=True)
    assert caught.value.exit_code == 2


def test_a_storage_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    check_writable(Folder(str(tmp_path / "new")))
    assert Folder(str(tmp_path / "new")).names() == []
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"cannot be written to: (Not a directory|File exists)"):
        check_writable(Folder(str(tmp_path / "file")))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_storage_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(StorageError, match="cannot be written to: Permission denied"):
        check_writable(Folder(str(tmp_path / "runs")))
    tmp_path.chmod(stat.S_IRWXU)


def test_content_is_named_by_what_it_says_alone(tmp_path: Path) -> None:
    assert content_hash({"a": 1, "b": (1, 2)}) == content_hash({"b": [1, 2], "a": 1})
    assert len({content_hash(1), content_hash("1"), content_hash(1.5), content_hash(1, 1), content_hash([1, 1])}) == 5
    assert canonical_json({"ü": [1, 2.5, None]}) == '{"ü":[1,2.5,null]}'.encode()
    with pytest.raises(ValueError, match="JSON"):
        content_hash(float("nan"))
    assert artifact(Folder("/s"), "tokens", "ab12").url == "/s/artifacts/tokens/ab12"
