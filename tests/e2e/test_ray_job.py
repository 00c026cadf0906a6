"""The same pipeline as a Ray job, of a clone that has the packages and nothing else."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers import ROOT, run
from tests.heads import RayHead, ray_head
from tests.tiny import told_losses, write_config

pytestmark = [pytest.mark.timeout(3600), pytest.mark.proof, pytest.mark.proof_cluster]

# The search and the verdict need no second proof here: one trial of one worker, and no twin.
SHORT = (
    "stages.tune.num_trials=1",
    "stages.tune.finetune.workers.num_workers=1",
    "stages.evaluate.baselines=[majority]",
)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages as a clone has them, and nothing else."""
    folder = tmp_path_factory.mktemp("clone")
    for room in ("llmcore", "jobs", "cluster"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayHead]:
    """A head with a dashboard."""
    with ray_head(tmp_path_factory.mktemp("home")) as head:
        yield head


def test_as_a_ray_job(
    cluster: RayHead, clone: Path, reference: Path, tiny: "dict[str, object]", tmp_path: Path
) -> None:
    write_config(clone / "tiny.yaml", tiny)
    command = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", cluster.jobs_url]
    command += ["--working-dir", ".", "--", "python", "-m", "jobs", "pipeline", "tiny.yaml"]
    ended = run([*command, f"storage={tmp_path}/runs", *SHORT], cwd=clone, env=cluster.env, timeout_s=1200)
    print(f"\nas a Ray job: {ended.seconds:.0f} s\n{ended.out}")
    assert ended.code == 0, ended.out + ended.err
    assert "succeeded" in ended.out
    said = [json.loads(line) for line in ended.out.splitlines() if line.startswith('{"time"')]
    assert {(one["run"], one["attempt"]) for one in said if "run" in one} == {("tiny", 1)}
    assert told_losses(tmp_path / "runs") == told_losses(reference)
