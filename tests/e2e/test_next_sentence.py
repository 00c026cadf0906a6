"""A BERT of sentence pairs by the command line: prepared, trained on both losses, loaded by plain transformers."""

import json
from pathlib import Path

import torch
from transformers import AutoModelForPreTraining, AutoTokenizer, BertForPreTraining

from llmcore.records import newest_result, read_metrics
from llmcore.storage import Folder
from tests.drivers import run_jobs
from tests.sentence_pairs import SIZES, write_corpus
from tests.tiny import write_config

NUM_STEPS = 120


def test_a_bert_learns_masks_and_pairs_and_is_loaded_by_plain_transformers(
    tmp_path: Path, one_ray: dict[str, str]
) -> None:
    (tmp_path / "corpus").mkdir()
    common = {"storage": str(tmp_path / "runs"), "cluster": {"num_cpus": 2}}
    prepared = write_config(
        tmp_path / "prepare.yaml",
        common
        | {
            "name": "pairs",
            "sources": [{"name": "s", "url": str(write_corpus(tmp_path / "corpus"))}],
            "tokenizer": {"vocab_size": 330, "begin_documents": True},
            "packing": {"sequence_length": 48, "sentence_pairs": True},
        },
    )
    pretrained = write_config(
        tmp_path / "pretrain.yaml",
        common
        | {
            "name": "bert",
            "tokens": "pairs",
            "objective": "masked_lm",
            "next_sentence": True,
            "model": {"family": "bert", "sizes": SIZES},
            "train": {
                "num_steps": NUM_STEPS,
                "global_batch_size": 6,
                "micro_batch_size": 2,
                "precision": "fp32",
                "optimizer": {"learning_rate": 3e-3},
                "log_every": 1,
                "dry_step": True,
            },
            "workers": {"num_workers": 2, "cpus_per_worker": 0.5, "threads_per_worker": 1},
        },
    )
    for job, config in (("prepare", prepared), ("pretrain", pretrained)):
        ended = run_jobs(job, str(config), cwd=tmp_path, **one_ray)
        assert ended.code == 0, ended.out + ended.err
    storage = Folder(str(tmp_path / "runs"))
    result = newest_result(storage / "bert")
    assert result is not None
    losses = [row["loss"] for row in read_metrics(storage / "bert") if "loss" in row]
    assert len(losses) == NUM_STEPS and sum(losses[-10:]) < sum(losses[:10]) - 10
    validation = next(row for row in read_metrics(storage / "bert") if "validation_loss" in row)
    assert 0.3 < validation["validation_next_sentence_accuracy"] <= 1
    assert 0 < validation["validation_next_sentence_loss"] < 1.5
    assert 0 < result["unigram_accuracy"] <= result["validation_accuracy"] <= 1
    folder = tmp_path / "runs/bert/model"
    model, tokenizer = AutoModelForPreTraining.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    assert isinstance(model, BertForPreTraining)
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["BertForPreTraining"]
    with torch.no_grad():
        out = model(**tokenizer("It can open a path.", "It can close it.", return_tensors="pt"))
    assert torch.isfinite(out.prediction_logits).all() and out.seq_relationship_logits.shape == (1, 2)
    assert "whether a segment follows another" in (folder / "README.md").read_text()
