"""Other objectives by the command line: they learn, plain transformers loads what they wrote, and a folder goes on."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from llmcore.records import newest_result
from llmcore.storage import Folder
from tests.drivers import ray_folder, run_jobs
from tests.tiny import told_losses, write_config

NUM_STEPS = 120
T5 = {"d_model": 32, "d_ff": 64, "d_kv": 16, "num_layers": 1, "num_heads": 2, "initializer_factor": 0.3}
GPT = {"n_embd": 32, "n_layer": 1, "n_head": 2}


def _config(folder: Path, tiny: dict[str, Any], reference: Path, **changes: Any) -> str:
    train = tiny["pretrain"]["train"] | {"num_steps": NUM_STEPS, "validate_every": NUM_STEPS, "zero_stage": 3}
    given = {
        "name": "tiny.pretrain",
        "storage": str(folder / "runs"),
        "cluster": tiny["cluster"],
        "tokens": f"{reference}/tiny.prepare",
        "train": train,
        "workers": tiny["pretrain"]["workers"],
    }
    return str(write_config(folder / "pretrain.yaml", given | changes))


def _run(folder: Path, config: str) -> dict[str, Any]:
    with ray_folder() as ray:
        ended = run_jobs("pretrain", config, cwd=folder, RAY_TMPDIR=ray)
    assert ended.code == 0, ended.out + ended.err
    result = newest_result(Folder(str(folder / "runs")) / "tiny.pretrain")
    assert result is not None
    return result


def _learns(folder: Path) -> None:
    losses = [row["loss"] for row in told_losses(folder / "runs") if "loss" in row]
    assert len(losses) == NUM_STEPS and sum(losses[-10:]) < sum(losses[:10]) - 5, losses


def test_a_t5_learns_and_writes_what_was_cut_out(tmp_path: Path, tiny: dict[str, Any], reference: Path) -> None:
    config = _config(tmp_path, tiny, reference, objective="span_corruption", model={"family": "t5", "sizes": T5})
    result = _run(tmp_path, config)
    _learns(tmp_path)
    folder = tmp_path / "runs/tiny.pretrain/model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    inputs = tokenizer("return the <|extra_id_0|> of a given object", return_tensors="pt").input_ids
    written = model.generate(inputs, max_new_tokens=5)[0].tolist()
    assert written[1] == tokenizer.convert_tokens_to_ids("<|extra_id_0|>"), "it has learnt what comes first"
    assert "spans that were cut out" in (folder / "README.md").read_text()
    assert result["validation_loss"] < 5


def test_an_infilling_gpt_learns_and_marks_are_text_to_it(
    tmp_path: Path, tiny: dict[str, Any], reference: Path
) -> None:
    settings = {"share": 0.7, "suffix_first": 0.5}
    model = {"family": "gpt2", "sizes": GPT}
    config = _config(tmp_path, tiny, reference, objective="fill_in_the_middle", infilling=settings, model=model)
    _run(tmp_path, config)
    _learns(tmp_path)
    folder = tmp_path / "runs/tiny.pretrain/model"
    tokenizer, loaded = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    assert loaded.config.n_positions == tokenizer.model_max_length + 3
    ids = tokenizer("<|fim_prefix|>return the<|fim_suffix|> of the file<|fim_middle|>", return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.isfinite(loaded(input_ids=ids).logits).all()


def test_a_run_goes_on_from_a_folder_and_is_another_when_the_folder_changes(
    tmp_path: Path, tiny: dict[str, Any], reference: Path
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(reference / "tiny.pretrain/model", folder)
    (folder / "manifest.json").unlink()  # a folder as anyone's
    train = tiny["pretrain"]["train"] | {"num_steps": 4, "validate_every": 4, "schedule": {"warmup_fraction": 0.0}}
    config = _config(tmp_path, tiny, reference, model={"folder": str(folder)}, train=train)
    before = newest_result(Folder(str(reference)) / "tiny.pretrain")
    assert before is not None
    result = _run(tmp_path, config)
    losses = [row["loss"] for row in told_losses(tmp_path / "runs") if "loss" in row]
    assert losses[0] < before["unigram_loss"] - 0.1, "from the first step on it knows what the folder knows"
    assert abs(result["validation_loss"] - before["validation_loss"]) < 0.3
    card = (tmp_path / "runs/tiny.pretrain/model/README.md").read_text()
    assert f"began as `{folder}`" in card
    plain = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(plain | {"layer_norm_epsilon": 1e-6}))
    with ray_folder() as ray:
        ended = run_jobs("pretrain", config, cwd=tmp_path, RAY_TMPDIR=ray)
    assert ended.code == 2 and "model" in ended.err, ended.out + ended.err


def test_a_model_of_another_kind_is_refused_before_a_worker_starts(
    tmp_path: Path, tiny: dict[str, Any], reference: Path
) -> None:
    folder = reference / "tiny.pretrain/model"
    config = _config(tmp_path, tiny, reference, objective="masked_lm", model={"folder": str(folder)})
    with ray_folder() as ray:
        ended = run_jobs("pretrain", config, cwd=tmp_path, RAY_TMPDIR=ray)
    assert ended.code == 2 and "is a gpt2; objective=masked_lm trains bert" in ended.err, ended.out + ended.err
    assert not (tmp_path / "runs/tiny.pretrain").exists()
