"""`checkpoints` and `export`: a run's checkpoints from outside, and plain models of them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from jobs.__main__ import main
from llmcore.storage import Folder, read_manifest
from llmcore.train.exported import export_checkpoint
from llmcore.train.inspection import choose_checkpoint
from tests.engines import ROWS, tiny_engine, tiny_model
from tests.ranks import run_ranks
from tests.tiny_run import fit_tiny, write_tokenizer

SHARD_BYTES = 30_000


def _train(storage: str, tokenizer: str) -> dict[str, Any]:
    from llmcore.train import export

    in_shards = export.export_model.__kwdefaults__
    in_shards["shard_bytes"] = SHARD_BYTES
    return fit_tiny(Folder(storage), Path(tokenizer), num_steps=9, zero_stage=3, keep_checkpoints=5)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run of two ranks at ZeRO-3."""
    root = tmp_path_factory.mktemp("run")
    tokenizer = write_tokenizer(root / "tokenizer")
    run_ranks(2, _train, str(root / "runs"), str(tokenizer), out=root / "out")
    return root / "runs"


def _logits(folder: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=ROWS[:4]).logits
    return logits


def test_the_exports_of_training_and_of_the_checkpoint_are_one_model(storage: Path, tmp_path: Path) -> None:
    own = storage / "tiny/model"
    assert read_manifest(Folder(str(own))) is not None
    assert len(list(own.glob("model-*-of-*.safetensors"))) > 1
    assert max(path.stat().st_size for path in own.glob("*.safetensors")) < SHARD_BYTES + 4000
    assert main(["export", "tiny", "--storage", str(storage), "--to", str(tmp_path / "whole")]) == 0
    whole = tmp_path / "whole"
    assert {path.name for path in whole.iterdir()} >= {"config.json", "model.safetensors", "README.md"}
    assert torch.equal(_logits(whole), _logits(own))
    assert (
        AutoTokenizer.from_pretrained(whole)("a b c").input_ids == AutoTokenizer.from_pretrained(own)("a b c").input_ids
    )
    run = Folder(str(storage / "tiny"))
    export_checkpoint(run, *choose_checkpoint(run, None), Folder(str(tmp_path / "shards")), shard_bytes=SHARD_BYTES)
    index = json.loads((tmp_path / "shards/model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {path.name for path in (tmp_path / "shards").glob("*.safetensors")}
    assert torch.equal(_logits(tmp_path / "shards"), _logits(own))


def test_any_checkpoint_is_exported_by_its_step_into_the_run(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(storage / "tiny"), "--step", "4"]) == 0
    folder = storage / "tiny/exported/step-00000004-attempt-01"
    assert str(folder) in capsys.readouterr().out
    manifest = read_manifest(Folder(str(folder)))
    assert manifest is not None and manifest.kind == "model" and manifest.about["step"] == 4
    card = (folder / "README.md").read_text()
    assert card.startswith("# After 4 steps\n")
    assert f"{sum(parameter.numel() for parameter in tiny_model().parameters()):,} parameters, trained with" in card
    assert "at last on 2 × cpu in fp32, DeepSpeed ZeRO-3" in card
    assert torch.equal(_logits(folder), _logits(storage / "tiny/exports/step-00000004-attempt-01"))
    assert not torch.equal(_logits(folder), _logits(storage / "tiny/model"))


def test_an_export_that_cannot_be_is_refused(storage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "tiny", "--storage", str(storage), "--step", "3"]) == 2
    assert "no complete checkpoint of step 3: give one of 2, 4, 6, 8, 9" in capsys.readouterr().err
    (tmp_path / "mine").write_text("something")
    assert main(["export", "tiny", "--storage", str(storage), "--to", str(tmp_path)]) == 2
    assert "give an empty or a new folder" in capsys.readouterr().err
    assert main(["export", "tinny", "--storage", str(storage)]) == 2
    assert "did you mean tiny?" in capsys.readouterr().err


def test_checkpoints_are_listed_and_verified(storage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(storage, tmp_path / "runs")
    checkpoints = tmp_path / "runs/tiny/checkpoints"
    damaged = checkpoints / "step-00000004-attempt-01/rank-0001.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\xff")
    (checkpoints / "step-00000006-attempt-01/manifest.json").unlink()
    (checkpoints / "step-00000002-attempt-01/manifest.json").write_text("{}")
    assert main(["checkpoints", "tiny", "--storage", str(tmp_path / "runs"), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [one["status"] for one in told] == ["damaged", "complete", "incomplete", "complete", "complete"]
    assert main(["checkpoints", str(tmp_path / "runs/tiny"), "--verify", "--json"]) == 1
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert [one["status"] for one in told] == ["damaged", "damaged", "incomplete", "good", "good"]
    assert "rank-0001.safetensors is not what its manifest says" in told[1]["reason"]
    assert (told[4]["step"], told[4]["attempt"], told[4]["world_size"], told[4]["zero_stage"]) == (9, 1, 2, 3)
    assert told[4]["num_bytes"] > 12 * sum(parameter.numel() for parameter in tiny_model().parameters())
    assert told[4]["loss"] > 0
    assert "2 of 5 checkpoints" in captured.err
    assert main(["checkpoints", "tiny", "--storage", str(storage), "--verify"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["step", "attempt", "ranks", "ZeRO", "precision", "bytes", "loss", "status"]
    assert [line.split()[0] for line in lines[1:]] == ["2", "4", "6", "8", "9"]
    assert all(line.endswith("good") for line in lines[1:])


def _fail_to_export(root: str, tokenizer: str) -> str:
    from llmcore.errors import CheckpointError
    from llmcore.train import export

    engine = tiny_engine(3)

    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    export.write_architecture = full
    try:
        export.export_model(engine, Folder(f"{root}/export"), Path(tokenizer), "", {})
    except CheckpointError as error:
        return str(error)
    return "exported"


def test_an_export_that_one_rank_cannot_write_fails_on_all(storage: Path, tmp_path: Path) -> None:
    tokenizer = str(storage.parent / "tokenizer")
    for told in run_ranks(2, _fail_to_export, str(tmp_path), tokenizer, out=tmp_path / "out"):
        assert "No space left on device" in told
    assert read_manifest(Folder(f"{tmp_path}/export")) is None
