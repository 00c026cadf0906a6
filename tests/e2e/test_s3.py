"""A corpus read from S3, prepared and pre-trained on S3: the same losses as on a disk; also where S3 fails at times."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmcore.records import newest_result
from llmcore.storage import Folder, read_manifest
from tests.drivers import ray_folder, run_jobs, start_jobs, wait_for
from tests.servers import S3_SERVERS, FaultyProxy, s3_bucket, s3_here
from tests.tiny import tiny_stage, told_losses, write_config

pytest.importorskip("s3fs", reason="needs the extra: pip install llmcore[s3]")

DOWN_S = 6.0
Address = tuple[str, int]


@pytest.fixture(scope="module", params=S3_SERVERS)
def server(request: pytest.FixtureRequest, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """Where a server with the corpus in its bucket listens."""
    scratch = tmp_path_factory.mktemp("s3")
    with s3_bucket(request.param, scratch) as address:
        with s3_here(address, scratch / "cache"):
            for shard in corpus.iterdir():
                Folder("s3://bucket/corpus").write_bytes(shard.name, shard.read_bytes())
        yield address


def _job(tiny: dict[str, Any], kind: str, storage: str, corpus: str) -> dict[str, Any]:
    job = {"name": f"tiny.{kind}", "storage": storage, "cluster": tiny["cluster"], **tiny_stage(tiny, kind)}
    if kind == "prepare":
        job["sources"] = [job["sources"][0] | {"url": corpus}]
        return job
    if kind == "tune":
        return job | {"base": "tiny.pretrain", "data": "tiny.prepare/areas", "num_trials": 1}
    return job | {"tokens": "tiny.prepare"}


def _run(kind: str, tiny: dict[str, Any], storage: str, folder: Path, environment: dict[str, str]) -> None:
    config = write_config(folder / f"{kind}.yaml", _job(tiny, kind, storage, "s3://bucket/corpus"))
    with ray_folder() as ray:
        ended = run_jobs(kind, str(config), cwd=folder, RAY_TMPDIR=ray, **environment)
    assert ended.code == 0, ended.out + ended.err


@pytest.fixture
def environment(server: Address, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Of a driver that is to find the server; this process does, too."""
    with s3_here(server, tmp_path / "cache") as found:
        yield found


def _published(storage: Folder) -> dict[str, str]:
    """The hash of each file of the token shards, whatever the storage."""
    result = newest_result(storage / "tiny.prepare")
    assert result is not None
    manifest = read_manifest(storage / result["tokens"])
    assert manifest is not None
    return {name: entry.sha256 for name, entry in manifest.files.items()}


def test_prepare_and_pretrain_on_s3_as_on_a_disk(
    environment: dict[str, str], tiny: dict[str, Any], reference: Path, tmp_path: Path
) -> None:
    storage = "s3://bucket/runs"
    for kind in ("prepare", "pretrain"):
        _run(kind, tiny, storage, tmp_path, environment)
    assert _published(Folder(storage)) == _published(Folder(str(reference)))
    assert told_losses(storage) == told_losses(reference)
    assert (newest_result(Folder(storage) / "tiny.prepare") or {})["storage_retries"] == {}

    _run("tune", tiny, storage, tmp_path, environment)
    searched = newest_result(Folder(storage) / "tiny.tune") or {}
    assert (searched["statuses"], searched["best_trial"]) == ({"finished": 1}, "trial-000")
    record = (Folder(storage) / "tiny.tune/trials/trial-000").read_json("trial.json")
    model = read_manifest(Folder(storage) / record["model"])
    assert model is not None and model.sha256 == record["model_sha256"]
    assert [report["step"] for report in record["reports"]] == sorted({report["step"] for report in record["reports"]})


def test_where_s3_fails_at_times_the_same_is_prepared(
    server: Address, environment: dict[str, str], tiny: dict[str, Any], reference: Path, tmp_path: Path
) -> None:
    storage = "s3://bucket/faulty"
    proxy = FaultyProxy(server, one_in=5)
    with proxy.listening() as (host, port):
        _run("prepare", tiny, storage, tmp_path, environment | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"})
    retries = (newest_result(Folder(storage) / "tiny.prepare") or {})["storage_retries"]
    print(f"{proxy.num_requests} requests, {dict(proxy.faults)}, {len(proxy.failed)} to be sent again, {retries}")
    assert set(proxy.faults) == set(proxy.KINDS), proxy
    assert _published(Folder(storage)) == _published(Folder(str(reference)))
    # Not in the result: what is asked about the corpus, and the end of the attempt, which has the result.
    uncounted = [line for line in proxy.failed if not line.startswith("GET /bucket/corpus/") and "corpus" in line]
    uncounted += [line for line in proxy.failed if "/cost.json" in line or "/end.json" in line]
    assert len(proxy.failed) - len(uncounted) <= sum(retries.values()) <= len(proxy.failed), (retries, proxy)
    for status in ("500", "503"):
        assert 0 < retries[status] <= proxy.faults[status], (retries, proxy)


def test_pretraining_goes_on_after_seconds_in_which_s3_is_down(
    server: Address, environment: dict[str, str], tiny: dict[str, Any], reference: Path, tmp_path: Path
) -> None:
    storage, prepared = Folder("s3://bucket/down"), Folder(str(reference))
    for name in prepared.walk():
        if name.startswith(("tiny.prepare/", "artifacts/tokens/")):
            storage.write_bytes(name, prepared.read_bytes(name))
    config = write_config(tmp_path / "pretrain.yaml", _job(tiny, "pretrain", storage.url, ""))
    proxy, log = FaultyProxy(server, one_in=1 << 30), tmp_path / "log"
    checkpoints = storage / "tiny.pretrain/checkpoints"
    with ray_folder() as ray, proxy.listening() as (host, port):
        through = environment | {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "RAY_TMPDIR": ray}
        driver = start_jobs("pretrain", str(config), cwd=tmp_path, output=log, **through)
        assert wait_for(lambda: bool(checkpoints.names()), driver), log.read_text()
        proxy.down_until = time.monotonic() + DOWN_S
        assert driver.wait(300) == 0, log.read_text()
    result = newest_result(storage / "tiny.pretrain")
    assert result is not None
    print(f"{proxy.faults['503']} requests refused in {DOWN_S:.0f} s; {result['storage_retries']}")
    assert result["storage_retries"]["503"] > 0 and result["num_restarts"] == 0
    assert told_losses(storage.url) == told_losses(reference)
