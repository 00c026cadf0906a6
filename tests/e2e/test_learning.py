"""`make proof TOPIC=learning`: what each objective learns from real books, against a plain loop or its beginning."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModelForCausalLM

from jobs.benchmarks.row_tensors import block_mask, document_positions, next_tokens, row_tensors
from llmcore.config.pretrain import PretrainConfig
from llmcore.models.build import build_causal_lm, model_config, num_parameters
from llmcore.records import read_metrics
from llmcore.tokens.shards import TokenShards
from tests.parity import plain_validation_loss
from tests.shared_data import needs_data, write_chapters
from tests.workshop import Workshop

pytestmark = [pytest.mark.proof, pytest.mark.proof_learning, pytest.mark.timeout(3600), needs_data]

WORKERS = {"num_workers": 2, "cpus_per_worker": 0.5, "threads_per_worker": 1}
GPT = {"family": "gpt2", "sizes": {"n_embd": 320, "n_layer": 7, "n_head": 5}}
GPT_STEPS, GPT_ROWS = 160, 16
SMALL_STEPS = 150


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("learning"))


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chapters(tmp_path_factory.mktemp("books"))


@pytest.fixture(scope="module")
def tokens(workshop: Workshop, books: Path) -> TokenShards:
    """Documents in rows of 256 tokens, from a byte-level BPE."""
    result = workshop.run(
        "prepare",
        "books",
        {
            "sources": [{"name": "books", "url": str(books)}],
            "splits": {"validation": 0.01, "test": 0},
            "tokenizer": {"vocab_size": 4096, "sample_bytes": 8_000_000},
            "packing": {"sequence_length": 256},
        },
    )
    return TokenShards.open(workshop.storage / result["tokens"])


def _settings(model: dict[str, Any], num_steps: int, rows: int, learning_rate: float, **changes: Any) -> dict[str, Any]:
    train = {
        "num_steps": num_steps,
        "global_batch_size": rows,
        "micro_batch_size": rows // 2,
        "precision": "fp32",
        "optimizer": {"learning_rate": learning_rate},
        "log_every": 1,
    }
    return {"tokens": "books", "model": model, "train": train, "workers": WORKERS} | changes


def test_a_gpt_loses_no_more_than_a_plain_loop_after_the_same_tokens(
    workshop: Workshop, tokens: TokenShards, tmp_path: Path
) -> None:
    settings = _settings(GPT, GPT_STEPS, GPT_ROWS, 1e-3)
    result = workshop.run("pretrain", "gpt", settings)
    plain = _train_plainly(PretrainConfig.model_validate(settings | {"name": "gpt"}), tokens)
    assert 9e6 < num_parameters(plain) < 11e6
    plain.save_pretrained(tmp_path / "plain")  # type: ignore[operator]
    num_rows = tokens.num_rows("validation")
    ours = plain_validation_loss(workshop.path(result["model"]), tokens, num_rows)
    theirs = plain_validation_loss(tmp_path / "plain", tokens, num_rows)
    print(f"gpt: {result['tokens_seen']:,} tokens, ours {ours:.4f}, plain {theirs:.4f}, {ours / theirs - 1:+.3%}")
    assert ours == pytest.approx(result["validation_loss"], rel=1e-3)
    assert ours == pytest.approx(theirs, rel=0.01)
    assert ours < result["unigram_loss"] - 1


def _train_plainly(config: PretrainConfig, shards: TokenShards) -> nn.Module:
    """Plain transformers and PyTorch on the same rows from the same weights: a block-diagonal mask, a cosine, AdamW."""
    train, special = config.train, shards.about["special_ids"]
    made = model_config(
        config.model,
        vocab_size=shards.vocab_size,
        sequence_length=shards.sequence_length,
        eos_id=special["end"],
        pad_id=special["pad"],
    )
    weights = build_causal_lm(made, seed=train.seed).state_dict()
    model: nn.Module = AutoModelForCausalLM.from_config(made, attn_implementation="sdpa")
    model.load_state_dict(weights)
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    peak, num_steps, rows = train.optimizer.learning_rate, GPT_STEPS, train.global_batch_size
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.95), eps=1e-8, fused=True)
    order, num_warmup = shards.order(train.seed), round(0.05 * num_steps)
    for step in range(num_steps):
        numbers, _ = order.rows(np.arange(step * rows, (step + 1) * rows))
        told, documents = row_tensors(shards.rows("train", numbers))
        labels = next_tokens(told, documents, across=False)
        num_targets = (labels != -100).sum()
        optimizer.zero_grad()
        for part in torch.arange(rows).split(8):
            logits = model(
                input_ids=told[part],
                attention_mask=block_mask(documents[part]),
                position_ids=document_positions(documents[part]),
                use_cache=False,
            ).logits
            loss_sum = functional.cross_entropy(logits.flatten(0, 1), labels[part].flatten(), reduction="sum")
            (loss_sum / num_targets).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        done = (step - num_warmup) / (num_steps - num_warmup)
        factor = (step + 1) / num_warmup if done < 0 else 0.1 + 0.45 * (1 + math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = peak * factor
        optimizer.step()
    return model


@pytest.mark.parametrize(
    ("objective", "model"),
    [
        (
            "span_corruption",
            {"family": "t5", "sizes": {"d_model": 256, "d_kv": 64, "d_ff": 512, "num_layers": 2, "num_heads": 4}},
        ),
        ("fill_in_the_middle", {"family": "gpt2", "sizes": {"n_embd": 256, "n_layer": 3, "n_head": 4}}),
    ],
)
def test_the_others_learn(workshop: Workshop, tokens: TokenShards, objective: str, model: dict[str, Any]) -> None:
    result = workshop.run("pretrain", objective, _settings(model, SMALL_STEPS, 16, 2e-3, objective=objective))
    untrained = next(row["loss"] for row in read_metrics(workshop.storage / objective) if "loss" in row)
    print(f"{objective}: {untrained:.3f} before the first step, {result['validation_loss']:.3f} after the last")
    assert result["validation_loss"] < untrained - 1.5
    assert result["validation_loss"] < result["unigram_loss"]
