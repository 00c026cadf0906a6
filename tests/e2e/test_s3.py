"""A corpus read from S3, prepared and pre-trained on S3: the same losses as on a disk; also where S3 fails at times."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from llmcore.records import newest_result
from llmcore.storage import Folder, read_manifest
from tests.drivers import ray_folder, run_jobs
from tests.servers import FaultyProxy, s3_environment, s3_server
from tests.tiny import told_losses, write_config, write_corpus

pytest.importorskip("s3fs", reason="needs the extra: pip install llmcore[s3]")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, tuple[str, int]]]:
    """The bucket's directory, and where the server listens."""
    root = tmp_path_factory.mktemp("s3")
    write_corpus(root / "bucket" / "corpus")
    with s3_server(root) as address:
        yield root / "bucket", address


def _job(tiny: dict[str, Any], kind: str, storage: str, corpus: str) -> dict[str, Any]:
    job = {"name": f"tiny.{kind}", "storage": storage, "cluster": tiny["cluster"], **tiny[kind]}
    if kind == "prepare":
        job["sources"] = [job["sources"][0] | {"url": corpus}]
        return job
    return job | {"tokens": "tiny.prepare"}


def _run(kind: str, tiny: dict[str, Any], storage: str, folder: Path, environment: dict[str, str]) -> None:
    config = write_config(folder / f"{kind}.yaml", _job(tiny, kind, storage, "s3://bucket/corpus"))
    with ray_folder() as ray:
        ended = run_jobs(kind, str(config), cwd=folder, RAY_TMPDIR=ray, **environment)
    assert ended.code == 0, ended.out + ended.err


@pytest.fixture
def s3_here(server: tuple[Path, tuple[str, int]], tmp_path: Path) -> Iterator[dict[str, str]]:
    environment = s3_environment(server[1], tmp_path / "cache")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield environment
        fsspec.get_filesystem_class("s3").clear_instance_cache()


def _published(storage: Folder) -> dict[str, str]:
    """The hash of each file of the token shards, whatever the storage."""
    result = newest_result(storage / "tiny.prepare")
    assert result is not None
    manifest = read_manifest(storage / result["tokens"])
    assert manifest is not None
    return {name: entry.sha256 for name, entry in manifest.files.items()}


def test_prepare_and_pretrain_on_s3_as_on_a_disk(
    s3_here: dict[str, str], tiny: dict[str, Any], reference: Path, tmp_path: Path
) -> None:
    storage = "s3://bucket/runs"
    for kind in ("prepare", "pretrain"):
        _run(kind, tiny, storage, tmp_path, s3_here)
    assert _published(Folder(storage)) == _published(Folder(str(reference)))
    assert told_losses(storage) == told_losses(reference)


def test_where_s3_fails_at_times_the_same_is_prepared(
    server: tuple[Path, tuple[str, int]], s3_here: dict[str, str], tiny: dict[str, Any], reference: Path, tmp_path: Path
) -> None:
    storage = "s3://bucket/faulty"
    proxy = FaultyProxy(server[1], one_in=20)
    with proxy.listening() as address:
        _run("prepare", tiny, storage, tmp_path, s3_environment(address, tmp_path / "cache"))
    print(f"{proxy.num_requests} requests, {dict(proxy.faults)}")
    assert set(proxy.faults) == set(proxy.KINDS), proxy
    assert _published(Folder(storage)) == _published(Folder(str(reference)))
