"""Checkpoints and exports on a real S3 server: streamed to it, and read from it range by range."""

from pathlib import Path
from typing import Any

import pytest

from llmcore.storage import Folder, read_manifest
from llmcore.train.inspection import choose_checkpoint, list_checkpoints
from tests.ranks import run_ranks
from tests.servers import S3_SERVERS, s3_bucket, s3_here
from tests.tiny_run import fit_tiny, write_tokenizer


def _train(storage: str, tokenizer: str, stage: int) -> dict[str, Any]:
    return fit_tiny(Folder(storage), Path(tokenizer), num_steps=9, zero_stage=stage)


@pytest.mark.parametrize("server", S3_SERVERS)
def test_a_run_on_s3_goes_on_at_another_stage_from_the_ranges_it_needs(server: str, tmp_path: Path) -> None:
    from llmcore.train.exported import export_checkpoint

    tokenizer = str(write_tokenizer(tmp_path / "tokenizer"))
    with s3_bucket(server, tmp_path) as address, s3_here(address, tmp_path / "cache"):
        run = Folder("s3://bucket/runs/tiny")
        [whole, _] = run_ranks(2, _train, "s3://bucket/runs", tokenizer, 2, out=tmp_path / "1")
        run.delete("checkpoints/step-00000009-attempt-01")
        [last, _] = run_ranks(2, _train, "s3://bucket/runs", tokenizer, 3, out=tmp_path / "2")
        assert (whole["resumed_at"], last["resumed_at"]) == (0, 8)
        assert last["train_loss"] == pytest.approx(whole["train_loss"], abs=2e-6)
        told = [(one.step, one.attempt, one.status) for one in list_checkpoints(run, verify=True)]
        assert told == [(8, 1, "good"), (9, 2, "good")]
        target = Folder(str(tmp_path / "exported"))
        export_checkpoint(run, *choose_checkpoint(run, None), target)
        assert read_manifest(target) is not None
        copied = {path.name for path in (tmp_path / "cache").rglob("*.safetensors")}
        assert not any(name.startswith("rank-") for name in copied), "a checkpoint is read where it is"
