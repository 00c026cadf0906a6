"""Encoder-decoders on packed rows: as plain transformers on each document alone, and no document sees another."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM
from transformers.models.t5.modeling_t5 import T5Attention

from llmcore.config.model import ModelSettings
from llmcore.models.build import build_language_model, model_config
from llmcore.models.encoder_decoder import PackedPair, encoder_decoder_logits
from llmcore.models.packed import PackedBatch
from llmcore.train.layers import checkpoint_activations

SIZES = {
    # Fewer distances than some documents have tokens, so that far ones share a bias.
    "t5": {
        "d_model": 32,
        "d_ff": 64,
        "d_kv": 16,
        "num_layers": 2,
        "num_heads": 2,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 8,
    },
    "bart": {
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
    },
}
SOURCES, TARGETS = [[12], [5, 3, 5], [], [1, 9]], [[6], [3, 2, 7], [], [2, 4]]
"""Lengths of the documents of four rows; the third has none."""


def build(family: str) -> torch.nn.Module:
    settings = ModelSettings(family=family, sizes=SIZES[family])  # type: ignore[arg-type]
    config = model_config(settings, vocab_size=60, sequence_length=16, eos_id=0, pad_id=1)
    model = build_language_model("span_corruption", config, seed=3)
    if family == "bart":  # a folder may hold another than zero, which a model begins with
        model.final_logits_bias.normal_(generator=torch.Generator().manual_seed(1))  # type: ignore[operator, union-attr]
    return model


@pytest.fixture(params=sorted(SIZES))
def model(request: pytest.FixtureRequest) -> torch.nn.Module:
    return build(request.param).eval()


def rows_of(lengths: list[list[int]], seed: int) -> PackedBatch:
    width = max(map(sum, lengths)) + 1
    tokens = torch.randint(2, 60, (len(lengths), width), generator=torch.Generator().manual_seed(seed))
    return PackedBatch.of_rows(tokens, lengths)


def pair() -> PackedPair:
    return PackedPair(rows_of(SOURCES, 0), rows_of(TARGETS, 1))


def documents(batch: PackedBatch) -> list[torch.Tensor]:
    pieces = batch.tokens.flatten().split(list(batch.lengths))
    return [piece for piece, padding in zip(pieces, batch.padding, strict=True) if not padding]


def test_logits_are_those_of_plain_transformers_document_by_document(model: torch.nn.Module, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    plain = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager").eval()
    alone = [
        plain(input_ids=source[None], labels=target[None]).logits[0]
        for source, target in zip(documents(pair().source), documents(pair().target), strict=True)
    ]
    ours = encoder_decoder_logits(model, pair())
    assert torch.allclose(ours, torch.cat(alone), atol=2e-5)
    assert ours.std() > 0.01


@pytest.mark.parametrize("side", ["source", "target"])
def test_changing_one_document_moves_no_other(model: torch.nn.Module, side: str) -> None:
    before = encoder_decoder_logits(model, pair())
    changed = pair()
    batch = getattr(changed, side)
    middle = slice(SOURCES[1][0], SOURCES[1][0] + 3) if side == "source" else slice(TARGETS[1][0], TARGETS[1][0] + 2)
    batch.tokens[1, middle] = 2 + (batch.tokens[1, middle] + 1) % 58
    moved = (before != encoder_decoder_logits(model, changed)).any(-1)
    own = slice(TARGETS[0][0] + TARGETS[1][0], TARGETS[0][0] + TARGETS[1][0] + TARGETS[1][1])
    # The decoder sees its own documents up to the token before, and all of the source.
    assert moved[own].tolist() == ([True, True] if side == "source" else [False, True])
    moved[own] = False
    assert not moved.any()


def test_padding_is_never_seen(model: torch.nn.Module) -> None:
    before = encoder_decoder_logits(model, pair())
    changed = pair()
    for batch in (changed.source, changed.target):
        batch.tokens[batch.padding_tokens()] = 7
    assert torch.equal(before, encoder_decoder_logits(model, changed))


def test_gradients_are_those_of_plain_transformers(model: torch.nn.Module, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    plain = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager").eval()
    weights = torch.randn(60, generator=torch.Generator().manual_seed(2))
    (encoder_decoder_logits(model, pair()) @ weights).square().sum().backward()
    for source, target in zip(documents(pair().source), documents(pair().target), strict=True):
        (plain(input_ids=source[None], labels=target[None]).logits[0] @ weights).square().sum().backward()
    ours, theirs = dict(model.named_parameters()), dict(plain.named_parameters())
    assert ours.keys() == theirs.keys()
    for name, parameter in ours.items():
        assert torch.allclose(parameter.grad, theirs[name].grad, rtol=1e-3, atol=1e-4), name  # type: ignore[arg-type]


def test_pieces_that_do_not_pair_up_are_refused() -> None:
    with pytest.raises(ValueError, match="pair up"):
        PackedPair(rows_of([[3, 4]], 0), rows_of([[3]], 0))


def test_distances_are_looked_up_for_the_longest_document_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row's own would be quadratic in the row: three quarters of what a step of a small T5 took."""
    asked: list[tuple[int, int]] = []
    compute = T5Attention.compute_bias

    def counted(self: Any, query_length: int, key_length: int, **given: Any) -> torch.Tensor:
        asked.append((query_length, key_length))
        return compute(self, query_length, key_length, **given)  # type: ignore[no-any-return]

    monkeypatch.setattr(T5Attention, "compute_bias", counted)
    source, target = (PackedBatch.of_documents([[5] * length] * 50) for length in (33, 4))
    encoder_decoder_logits(build("t5"), PackedPair(source, target))
    assert asked == [(64, 64), (32, 32)], "as long as the blocks that documents attend in"


def test_activations_may_be_computed_anew(model: torch.nn.Module) -> None:
    gradients = []
    for prepare in (lambda _: None, checkpoint_activations):
        prepare(model.train())
        model.zero_grad()
        encoder_decoder_logits(model, pair()).square().sum().backward()  # type: ignore[no-untyped-call]
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    kept, anew = gradients
    assert all(torch.allclose(kept[name], anew[name], atol=1e-6) for name in kept)  # type: ignore[arg-type]
