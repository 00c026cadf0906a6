"""A pre-training that begins with a folder's weights, by the command line."""

import json
import shutil
from pathlib import Path
from typing import Any

from llmcore.records import newest_result
from llmcore.storage import Folder
from tests.drivers import run_jobs
from tests.tiny import tiny_stage, told_losses, write_config


def _config(folder: Path, tiny: dict[str, Any], reference: Path, **changes: Any) -> str:
    train = {"num_steps": 4, "validate_every": 4, "zero_stage": 3, "schedule": {"warmup_fraction": 0.0}}
    given = {
        "name": "tiny.pretrain",
        "storage": str(folder / "runs"),
        "cluster": tiny["cluster"],
        "tokens": f"{reference}/tiny.prepare",
        "train": tiny_stage(tiny, "pretrain")["train"] | train,
        "workers": tiny_stage(tiny, "pretrain")["workers"],
    }
    return str(write_config(folder / "pretrain.yaml", given | changes))


def _run(folder: Path, config: str, one_ray: dict[str, str]) -> dict[str, Any]:
    ended = run_jobs("pretrain", config, cwd=folder, **one_ray)
    assert ended.code == 0, ended.out + ended.err
    result = newest_result(Folder(str(folder / "runs")) / "tiny.pretrain")
    assert result is not None
    return result


def test_a_run_goes_on_from_a_folder_and_is_another_when_the_folder_changes(
    tmp_path: Path, tiny: dict[str, Any], reference: Path, one_ray: dict[str, str]
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(reference / "tiny.pretrain/model", folder)
    (folder / "manifest.json").unlink()  # a folder as anyone's
    sets = {"again": f"{reference}/tiny.prepare"}  # what validates it already, so that both figures must be the same
    config = _config(tmp_path, tiny, reference, model={"folder": str(folder)}, validation_sets=sets)
    before = newest_result(Folder(str(reference)) / "tiny.pretrain")
    assert before is not None
    result = _run(tmp_path, config, one_ray)
    losses = [row["loss"] for row in told_losses(tmp_path / "runs") if "loss" in row]
    assert losses[0] < before["validation_loss"] + 0.5, "from the first step on it knows what the folder knows"
    assert result["validation_loss"] < before["validation_loss"] + 0.5
    card = (tmp_path / "runs/tiny.pretrain/model/README.md").read_text()
    assert f"began as `{folder}`" in card
    assert result["validation_again_loss"] == result["validation_loss"]
    assert result["validation_again_accuracy"] == result["validation_accuracy"]
    assert [row for row in told_losses(tmp_path / "runs") if "validation_again_loss" in row]
    assert f"held-out set again | {result['validation_again_loss']:.4f}" in card
    plain = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(plain | {"layer_norm_epsilon": 1e-6}))
    ended = run_jobs("pretrain", config, cwd=tmp_path, **one_ray)
    assert ended.code == 2 and "model" in ended.err, ended.out + ended.err


def test_a_model_of_another_kind_is_refused_before_a_worker_starts(
    tmp_path: Path, tiny: dict[str, Any], reference: Path, one_ray: dict[str, str]
) -> None:
    folder = reference / "tiny.pretrain/model"
    config = _config(tmp_path, tiny, reference, objective="masked_lm", model={"folder": str(folder)})
    ended = run_jobs("pretrain", config, cwd=tmp_path, **one_ray)
    assert ended.code == 2 and "is a gpt2; objective=masked_lm trains bert" in ended.err, ended.out + ended.err
    assert not (tmp_path / "runs/tiny.pretrain").exists()
