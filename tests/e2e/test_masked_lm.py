"""A BERT, pre-trained by the command line on prepared rows: it learns, and plain transformers loads what it wrote."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from llmcore.records import newest_result
from llmcore.storage import Folder
from tests.drivers import run_jobs
from tests.tiny import tiny_stage, told_losses, write_config

NUM_STEPS = 150


def _config(folder: Path, tiny: dict[str, Any], reference: Path) -> str:
    train = tiny_stage(tiny, "pretrain")["train"] | {
        "num_steps": NUM_STEPS,
        "validate_every": NUM_STEPS,
        "global_batch_size": 6,
    }
    given = {
        "name": "tiny.pretrain",
        "storage": str(folder / "bert"),
        "cluster": tiny["cluster"],
        "tokens": f"{reference}/tiny.prepare",
        "objective": "masked_lm",
        "masking": {"share": 0.3, "whole_words": True},
        "model": {
            "family": "bert",
            "sizes": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
        },
        "train": train,
        "workers": tiny_stage(tiny, "pretrain")["workers"],
    }
    return str(write_config(folder / "bert.yaml", given))


def test_a_bert_learns_and_is_loaded_by_plain_transformers(
    tmp_path: Path, tiny: dict[str, Any], reference: Path, one_ray: dict[str, str]
) -> None:
    config = _config(tmp_path, tiny, reference)
    ended = run_jobs("pretrain", config, cwd=tmp_path, **one_ray)
    assert ended.code == 0, ended.out + ended.err
    result = newest_result(Folder(str(tmp_path / "bert")) / "tiny.pretrain")
    assert result is not None
    losses = [row["loss"] for row in told_losses(tmp_path / "bert") if "loss" in row]
    assert len(losses) == NUM_STEPS and sum(losses[-10:]) < sum(losses[:10]) - 10
    assert result["validation_loss"] < result["unigram_loss"] + 0.1
    assert 0 < result["unigram_accuracy"] <= result["validation_accuracy"] <= 1
    folder = tmp_path / "bert/tiny.pretrain/model"
    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.model_type == "bert" and tokenizer.mask_token_id is not None
    inputs = tokenizer(f"return the {tokenizer.mask_token} of a given object", return_tensors="pt")
    with torch.no_grad():
        logits = model(**{name: inputs[name] for name in ("input_ids", "attention_mask")}).logits
    assert torch.isfinite(logits).all()
    assert "masked tokens" in (folder / "README.md").read_text()
