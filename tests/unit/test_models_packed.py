"""Attention stays inside documents, and equals plain transformers on each document alone."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from llmcore.config.model import ModelSettings
from llmcore.errors import ConfigError
from llmcore.models.build import build_causal_lm, model_config
from llmcore.models.packed import PackedBatch, hidden_states, rounded
from llmcore.objectives.causal_lm import CausalLM, causal_lm_targets

Documents = list[list[int]]
SIZES = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
    "llama": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
    },
    "qwen3": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 64,
        "use_sliding_window": True,
        "sliding_window": 6,  # less than some documents have
        "layer_types": ["full_attention", "sliding_attention"],
    },
}


@pytest.fixture(params=sorted(SIZES))
def model(request: pytest.FixtureRequest) -> torch.nn.Module:
    settings = ModelSettings(family=request.param, sizes=SIZES[request.param])
    return build_causal_lm(model_config(settings, vocab_size=50, sequence_length=16, eos_id=0, pad_id=1), seed=3).eval()


LENGTHS = [[16], [16], [5, 3, 7], [1, 9]]


def _batch(seed: int = 0) -> PackedBatch:
    generator = torch.Generator().manual_seed(seed)
    return PackedBatch.of_rows(torch.randint(2, 50, (4, 16), generator=generator), LENGTHS)


def test_changing_one_document_moves_no_other(model: torch.nn.Module) -> None:
    batch = _batch()
    before = hidden_states(model, batch)
    changed = batch.tokens.clone()
    changed[2, 5:8] = (changed[2, 5:8] + 1) % 50
    after = hidden_states(model, PackedBatch(changed, batch.lengths, batch.padding))
    moved = (before != after).any(-1)
    assert moved[2, 5:8].all()
    moved[2, 5:8] = False
    assert not moved.any()


def test_loss_equals_plain_transformers_document_by_document(model: torch.nn.Module, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    batch = _batch()
    ours, num_targets = CausalLM().loss_sums(model, batch), CausalLM().num_targets(batch)[0]
    total, count = 0.0, 0
    for row, lengths in enumerate(LENGTHS):
        start = 0
        for length in lengths:
            tokens = batch.tokens[row : row + 1, start : start + length]
            start += length
            logits = plain(input_ids=tokens).logits[0, :-1]
            total += functional.cross_entropy(logits, tokens[0, 1:], reduction="sum").item()
            count += length - 1
    assert num_targets == count
    assert ours.item() == pytest.approx(total, rel=1e-5)


def test_targets_leave_out_first_tokens_and_padding() -> None:
    sources, targets = causal_lm_targets(_batch())
    assert len(sources) == len(targets) == 15 + 15 + 4 + 2 + 6 + 0 + 8


def test_documents_end_to_end_have_no_padding(model: torch.nn.Module) -> None:
    batch = PackedBatch.of_documents([[4, 5, 6], [7], [8, 9]])
    assert batch.last_tokens().tolist() == [2, 3, 5]
    assert not batch.padding_tokens().any()
    alone = hidden_states(model, PackedBatch.of_documents([[8, 9]]))
    assert torch.allclose(hidden_states(model, batch)[0, 4:], alone[0], atol=1e-6)


@pytest.mark.parametrize("documents", [[[4, 5, 6], [7], [8, 9]], [[4] * 9, [5] * 7]])
def test_a_cpu_reads_multiples_of_16_tokens_in_half_precision(model: torch.nn.Module, documents: Documents) -> None:
    batch = PackedBatch.of_documents(documents)
    assert rounded(model, batch) is batch
    assert rounded(model.bfloat16(), _batch()).tokens.shape == (4, 16), "rows are as they are"
    read = rounded(model, batch)
    assert read.num_tokens() == batch.num_tokens() and read.num_places() in (16, 32)
    assert read.positions()[0, : batch.num_tokens()].tolist() == batch.positions()[0].tolist()
    states = hidden_states(model, batch)
    assert states.shape[:2] == batch.tokens.shape
    assert torch.allclose(states.float(), hidden_states(model.float(), batch), atol=0.1)


def test_a_batch_without_targets_has_loss_zero_and_gradients(model: torch.nn.Module) -> None:
    batch = PackedBatch.of_rows(torch.ones(1, 16, dtype=torch.long), [[]])
    assert CausalLM().num_targets(batch)[0] == CausalLM().num_tokens(batch) == 0
    loss = CausalLM().loss_sums(model, batch)
    assert loss.item() == 0.0
    loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_sizes_of_another_family_are_refused() -> None:
    with pytest.raises(ConfigError, match="hidden_sizes"):
        model_config(
            ModelSettings(family="gpt2", sizes={"hidden_sizes": 3}), vocab_size=9, sequence_length=8, eos_id=0, pad_id=1
        )
    with pytest.raises(ConfigError, match="vocab_size"):
        model_config(
            ModelSettings(family="gpt2", sizes={"vocab_size": 3}), vocab_size=9, sequence_length=8, eos_id=0, pad_id=1
        )
