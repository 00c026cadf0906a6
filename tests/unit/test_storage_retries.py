"""Retries of remote file systems: what is asked again and what is not, until when, from where; and their number."""

import errno
import json
import pickle
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.config import conf
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from llmcore.corpus.read import DocumentReader
from llmcore.corpus.shards import Shard
from llmcore.errors import ShardError, StorageError
from llmcore.storage import Folder, file_system, retries
from llmcore.storage.retries import on_retry, retries_so_far, within

STORAGE = Folder("flaky://storage")


class Flaky(AbstractFileSystem):
    """Files in memory; each call raises the next of `failures`, as long as there is one."""

    protocol = "flaky"
    files: ClassVar[dict[str, bytes]] = {}
    failures: ClassVar[list[BaseException]] = []
    ranges: ClassVar[list[tuple[int, int]]] = []

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        self._fail()
        if path not in self.files:
            raise FileNotFoundError(path)
        return {"name": path, "size": len(self.files[path]), "type": "file"}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        self._fail()
        self.ranges.append((start or 0, end or 0))
        return self.files[path][start:end]

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        self._fail()
        if mode == "create" and path in self.files:
            raise FileExistsError(path)
        self.files[path] = value

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **options: Any) -> Any:
        return AbstractBufferedFile(self, path, mode, 1000, cache_type=options.get("cache_type", "readahead"))


class AnswerError(Exception):
    """As botocore's: with the server's answer."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}, "Error": {"Code": code}}


def translated(status: int, code: str) -> OSError:
    """As s3fs's: an OSError, and behind it the answer."""
    error = OSError(errno.EIO, f"{status} {code}")
    error.__cause__ = AnswerError(status, code)
    return error


def cut_short() -> Exception:
    """As aiohttp's, of a body that ended too early: what it is caused by calls itself 400."""
    error = type("ClientPayloadError", (Exception,), {})("not completed")
    error.__cause__ = type("ContentLengthError", (Exception,), {"code": 400})("not enough data")
    return error


@pytest.fixture(autouse=True)
def flaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Flaky]]:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    monkeypatch.setattr(retries, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(retries, "_LONGEST_WAIT_S", 0.01)
    for kept in (Flaky.files, Flaky.failures, Flaky.ranges):
        kept.clear()
    return Flaky


@pytest.fixture
def before() -> Counter[str]:
    return retries_so_far()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionResetError("gone"), "ConnectionResetError"),
        (TimeoutError("slow"), "TimeoutError"),
        (translated(500, "InternalError"), "500"),
        (translated(503, "SlowDown"), "503"),
        (translated(429, "TooManyRequests"), "429"),
        (translated(400, "RequestTimeout"), "400"),
        (AnswerError(502, "502"), "502"),
        (cut_short(), "ClientPayloadError"),
        (RuntimeError("of a backend's own kind"), "RuntimeError"),
    ],
)
def test_what_may_pass_is_asked_again_and_counted(error: Exception, kind: str, before: Counter[str]) -> None:
    Flaky.failures[:] = [error] * 3
    STORAGE.write_bytes("a", b"1")
    Flaky.failures[:] = [error] * 2
    assert STORAGE.read_bytes("a") == b"1" and not Flaky.failures
    assert retries_so_far() - before == {kind: 5}


@pytest.mark.parametrize(
    "error",
    [
        PermissionError("AccessDenied"),
        IsADirectoryError("a"),
        NotADirectoryError("a"),
        ValueError("no name"),
        TypeError("mode"),
        translated(403, "SignatureDoesNotMatch"),
        translated(400, "InvalidArgument"),
        translated(412, "PreconditionFailed"),
        type("NoCredentialsError", (Exception,), {})("Unable to locate credentials"),
    ],
)
def test_what_cannot_pass_is_raised_at_once(error: Exception, before: Counter[str]) -> None:
    Flaky.failures[:] = [error, RuntimeError("asked again")]
    with pytest.raises(StorageError) as caught:
        STORAGE.read_bytes("a")
    assert caught.value.__cause__ is error and len(Flaky.failures) == 1
    assert retries_so_far() == before


def test_what_is_absent_is_absent_at_once(before: Counter[str]) -> None:
    assert not STORAGE.exists("a")
    with pytest.raises(StorageError, match="flaky://storage/a does not exist"), STORAGE.open("a"):
        pass
    assert retries_so_far() == before


def test_at_the_deadline_the_error_says_how_often_and_how_long() -> None:
    Flaky.failures[:] = [translated(503, "SlowDown")] * 10_000
    started = time.monotonic()
    with within(0.3), pytest.raises(StorageError) as caught:
        STORAGE.read_bytes("a")
    assert 0.1 < time.monotonic() - started < 2
    asked = 10_000 - len(Flaky.failures)
    assert f"flaky://storage/a cannot be read: 503 SlowDown ({asked} attempts in 0." in str(caught.value)


def test_an_interrupt_is_no_failure() -> None:
    Flaky.failures[:] = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        STORAGE.read_bytes("a")


@pytest.mark.parametrize("at_random", [False, True])
def test_a_read_that_fails_goes_on_at_the_same_byte(at_random: bool, before: Counter[str]) -> None:
    content = bytes(range(256)) * 20_000
    Flaky.files["storage/a"] = content
    read = bytearray()
    with STORAGE.open_at_random("a") if at_random else file_system("flaky://storage/a")[0].open("storage/a") as file:
        while part := file.read(300_000):
            read += part
            Flaky.failures[:] = [ConnectionResetError("in the middle")] * 2
        Flaky.failures.clear()
        file.seek(77)
        assert file.read(5) == content[77:82] and file.tell() == 82
        file.seek(-3, 2)
        assert file.read() == content[-3:]
    assert bytes(read) == content
    assert (retries_so_far() - before)["ConnectionResetError"] > 0
    if at_random:  # a request for just the bytes that were asked for
        assert Flaky.ranges[:3] == [(0, 300_000), (300_000, 600_000), (600_000, 900_000)]


def test_a_stream_is_read_in_large_requests() -> None:
    Flaky.files["storage/a"] = b"line\n" * 1_000_000
    with STORAGE.open("a") as file:
        assert sum(1 for _ in file) == 1_000_000
    assert len(Flaky.ranges) <= 6, Flaky.ranges


def test_a_stream_that_is_given_up_is_a_storage_error_also_in_the_block() -> None:
    Flaky.files["storage/a"] = b"x" * 100
    with (
        within(0.05),
        pytest.raises(StorageError, match=r"a cannot be read: down .* attempts"),
        STORAGE.open("a") as file,
    ):
        Flaky.failures[:] = [ConnectionError("down")] * 10_000
        file.read()


def test_a_shard_that_fails_at_times_is_read_and_one_that_fails_for_long_is_named(before: Counter[str]) -> None:
    lines = [json.dumps({"text": f"text {number}"}) for number in range(1000)]
    Flaky.files["corpus/part.jsonl"] = "\n".join(lines).encode()
    shard = Shard("flaky://corpus/part.jsonl", "part.jsonl", 1, "")
    Flaky.failures[:] = [ConnectionError("down")] * 3
    texts = [text for part in DocumentReader("s", 0, "text").read(shard, 0) for text in part["text"].to_pylist()]
    assert len(texts) == 1000 and (retries_so_far() - before).total() == 3
    Flaky.failures[:] = [ConnectionError("down")] * 10_000
    with within(0.05), pytest.raises((ShardError, StorageError), match=r"part\.jsonl.*attempts in"):
        list(DocumentReader("s", 0, "text").read(shard, 0))


def test_a_create_that_was_asked_again_may_be_refused_because_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer is lost: who must know whose file it is reads it back, as `begin_attempt` does."""
    send = Flaky.pipe_file

    def lost(self: Flaky, path: str, value: bytes, **options: Any) -> None:
        send(self, path, value, **options)
        monkeypatch.setattr(Flaky, "pipe_file", send)
        raise ConnectionResetError("the answer is lost")

    monkeypatch.setattr(Flaky, "pipe_file", lost)
    assert not STORAGE.create_bytes("begin", b"mine") and STORAGE.read_bytes("begin") == b"mine"


def test_a_refusal_is_known_by_its_status() -> None:
    """Ceph's says 412 and nothing else."""
    Flaky.failures[:] = [FileNotFoundError("begin"), translated(412, "PreconditionFailed")]
    assert not STORAGE.create_bytes("begin", b"mine")


def test_who_listens_is_called_for_each_retry() -> None:
    heard = []
    on_retry(lambda: heard.append(retries_so_far().total()))
    try:
        Flaky.failures[:] = [ConnectionError("down")] * 3
        STORAGE.write_bytes("a", b"1")
    finally:
        on_retry(lambda: None)
    assert len(heard) == 3 and heard == sorted(set(heard))


def test_a_file_system_is_plain_data() -> None:
    """Ray Train takes one to its workers."""
    fs, _ = file_system("flaky://storage")
    assert pickle.loads(pickle.dumps(fs)) == fs and hash(fs) == hash(STORAGE.fs) and fs.protocol == "flaky"


def test_s3_has_no_retries_of_its_own_unless_the_user_asks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs", reason="needs the extra: pip install llmcore[s3]")
    fs, path = file_system("s3://bucket/runs")
    assert path == "bucket/runs" and fs.retries == 1
    assert fs.config_kwargs == {"retries": {"total_max_attempts": 1}}
    asked = {"config_kwargs": {"retries": {"mode": "standard"}, "connect_timeout": 2}}
    monkeypatch.setitem(conf, "s3", asked)
    assert file_system("s3://bucket/runs")[0].config_kwargs == asked["config_kwargs"]
