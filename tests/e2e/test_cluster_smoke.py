"""`make proof TOPIC=cluster`: the pipeline that ships, submitted to three nodes, with its storage on Ceph's S3."""

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.local.network import why_no_namespaces
from llmcore.records import attempt_numbers, newest_result
from llmcore.storage import Folder
from tests.drivers import wait_for
from tests.submitted import Submitted, World, submitted_to

pytest.importorskip("s3fs", reason="needs the extra: pip install llmcore[s3]")
pytestmark = [
    pytest.mark.proof,
    pytest.mark.proof_cluster,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(why_no_namespaces() is not None, reason=f"no namespaces: {why_no_namespaces()}"),
]

CONFIG = Path(__file__).parents[2] / "configs/pipeline/smoke.yaml"
STORAGE = Folder("s3://bucket/smoke")
MAX_S = 1800.0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Three nodes and Ceph."""
    yield from submitted_to(tmp_path_factory, "ceph", {}, outage_s=0.0)


def test_the_shipped_pipeline_completes_and_a_second_submit_follows_the_first(world: World, tmp_path: Path) -> None:
    config = Path(shutil.copy(CONFIG, tmp_path))
    job = Submitted(world, "pipeline", config, STORAGE, STORAGE / "smoke", (f"storage={STORAGE.url}",))
    began = time.monotonic()
    first = job.submit()
    pretraining = STORAGE / "smoke.pretrain"
    assert wait_for(lambda: bool(attempt_numbers(pretraining)), first, MAX_S), job.log.read_text()
    second = job.submit()
    assert (first.wait(MAX_S), second.wait(MAX_S)) == (0, 0), job.log.read_text()
    said = job.log.read_text()
    print(f"{time.monotonic() - began:.0f} s\n{said}", file=sys.stderr)
    assert "is there already" in said and "following it" in said
    assert all(attempt_numbers(STORAGE / name) == [1] for name in ("smoke", "smoke.pretrain")), "it ran once"
    pretrained = newest_result(pretraining)
    assert pretrained is not None
    assert pretrained["unigram_loss"] - pretrained["validation_loss"] >= 1.3
    search = newest_result(STORAGE / "smoke.tune")
    assert search is not None and sum(search["statuses"].values()) == 4, "each trial, once"
    judged = newest_result(STORAGE / "smoke.evaluate")
    assert judged is not None
    assert judged["differences"]["chosen - majority"]["macro_f1"]["low"] > 0
