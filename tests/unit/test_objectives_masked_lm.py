"""Masks are a function of seed, position and place; the loss is that of plain transformers, document by document."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from transformers import AutoModelForMaskedLM

from llmcore.config.masking import MaskingSettings
from llmcore.config.model import ModelSettings
from llmcore.models.build import build_language_model, model_config
from llmcore.models.packed import PackedBatch, hidden_states
from llmcore.objectives.masked_lm import MaskedLM
from llmcore.objectives.masking import masked
from llmcore.tokens.schema import PackedRows
from llmcore.tokens.vocabulary import Vocabulary

VOCAB_SIZE = 60
MASK = 3
VOCABULARY = Vocabulary(MASK, np.arange(VOCAB_SIZE) < 5, np.arange(VOCAB_SIZE) % 3 != 0)
"""Ids 0 to 4 are special; every third entry goes on with a word."""
SIZES = {
    "bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "roberta": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "modernbert": {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "local_attention": 6,  # less than some documents have
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
    },
}
LENGTHS = [[16], [5, 3, 7], [1, 9], [16]]


def rows_of(first_position: int = 0) -> pa.Table:
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, VOCAB_SIZE, (4, 16), dtype=np.int32)
    for row, lengths in enumerate(LENGTHS):
        tokens[row, sum(lengths) :] = 1
        tokens[row, np.cumsum(lengths) - 1] = 0  # the end of each document
    return PackedRows(tokens, LENGTHS, [[0] * len(row) for row in LENGTHS]).to_table(VOCAB_SIZE, first_position)


def objective_of(**changes: object) -> MaskedLM:
    return MaskedLM(MaskingSettings.model_validate(changes), VOCABULARY, seed=2)


@pytest.fixture(params=sorted(SIZES))
def model(request: pytest.FixtureRequest) -> torch.nn.Module:
    settings = ModelSettings(family=request.param, sizes=SIZES[request.param])
    config = model_config(settings, vocab_size=VOCAB_SIZE, sequence_length=16, eos_id=0, pad_id=1)
    return build_language_model("masked_lm", config, seed=3).eval()


def masks(positions: np.ndarray, num_columns: int = 64, **changes: object) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    tokens = np.random.default_rng(1).integers(5, VOCAB_SIZE, (len(positions), num_columns))
    found = masked(
        tokens,
        np.ones(tokens.shape, bool),
        positions,
        MaskingSettings.model_validate(changes),
        seed=2,
        mask_id=MASK,
        random_ids=np.arange(5, VOCAB_SIZE),
        word_starts=VOCABULARY.begins_word,
    )
    return tokens, *found


def test_the_shares_are_those_asked_for() -> None:
    tokens, seen, targets = masks(np.arange(4000))
    assert targets.mean() == pytest.approx(0.15, abs=0.003)
    assert (seen == tokens)[~targets].all()
    of_targets = seen[targets], tokens[targets]
    assert (of_targets[0] == MASK).mean() == pytest.approx(0.8, abs=0.01)
    kept = (of_targets[0] == of_targets[1]).mean()
    assert kept == pytest.approx(0.1 + 0.1 / (VOCAB_SIZE - 5), abs=0.01)
    drawn = of_targets[0][(of_targets[0] != MASK) & (of_targets[0] != of_targets[1])]
    assert set(drawn.tolist()) == set(range(5, VOCAB_SIZE)), "random tokens are all that are not special"


@given(first=st.integers(0, 2**40), whole_words=st.booleans(), cut=st.integers(1, 7))
@settings(deadline=None, max_examples=20)
def test_a_row_has_the_same_masks_whoever_reads_it_and_others_in_another_epoch(
    first: int, whole_words: bool, cut: int
) -> None:
    objective = objective_of(whole_words=whole_words)
    table = rows_of(first)
    whole = objective.micro_batches(table, 1, 4)[0]
    parts = objective.micro_batches(table, 4, 1)
    assert torch.equal(whole.seen.tokens, torch.cat([part.seen.tokens for part in parts]))
    assert torch.equal(whole.targets, torch.cat([part.targets for part in parts]))
    later = objective.micro_batches(rows_of(first + 4 * cut), 1, 4)[0]
    assert not torch.equal(whole.seen.tokens, later.seen.tokens) or len(whole.targets) + len(later.targets) < 4


def test_whole_words_are_targets_together_and_words_do_not_cross_what_is_no_target() -> None:
    tokens, _, targets = masks(np.arange(500), whole_words=True)
    goes_on = ~VOCABULARY.begins_word[tokens][:, 1:]
    assert (targets[:, 1:] == targets[:, :-1])[goes_on].all()
    assert targets.mean() == pytest.approx(0.15, abs=0.01)
    batch = objective_of(share=0.5).micro_batches(rows_of(), 1, 4)[0]
    flat = rows_of()["tokens"].combine_chunks().flatten().to_numpy()
    assert not VOCABULARY.is_special[flat[batch.places.numpy()]].any(), "ends and padding are never guessed"
    assert torch.equal(batch.targets, torch.from_numpy(flat.astype(np.int64))[batch.places])


def test_loss_equals_plain_transformers_document_by_document(model: torch.nn.Module, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    plain = AutoModelForMaskedLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    objective = objective_of(share=0.4)
    batch = objective.micro_batches(rows_of(), 1, 4)[0]
    flat, seen = rows_of()["tokens"].combine_chunks().flatten().to_numpy().astype(np.int64), batch.seen.tokens
    total, hits, count = 0.0, 0, 0
    for row, lengths in enumerate(LENGTHS):
        start = 0
        for length in lengths:
            logits = plain(input_ids=seen[row : row + 1, start : start + length]).logits[0]
            here = [p for p in batch.places.tolist() if row * 16 + start <= p < row * 16 + start + length]
            targets = torch.from_numpy(flat[here])
            at = torch.tensor(here, dtype=torch.long) - row * 16 - start
            total += functional.cross_entropy(logits[at], targets, reduction="sum").item()
            hits += int((logits[at].argmax(-1) == targets).sum())
            count += len(here)
            start += length
    assert objective.num_targets(batch)[0] == count > 10
    assert objective.loss_sums(model, batch).item() == pytest.approx(total, rel=1e-5)
    assert objective.loss_and_hits(model, batch).tolist() == pytest.approx([total, hits], rel=1e-5)


def test_changing_one_document_moves_no_other(model: torch.nn.Module) -> None:
    batch = objective_of().micro_batches(rows_of(), 1, 4)[0].seen
    before = hidden_states(model, batch)
    changed = batch.tokens.clone()
    changed[1, 5:8] = 5 + (changed[1, 5:8] + 1) % (VOCAB_SIZE - 5)
    after = hidden_states(model, PackedBatch(changed, batch.lengths, batch.padding))
    moved = (before != after).any(-1)
    assert moved[1, 5:8].all()
    moved[1, 5:8] = False
    assert not moved.any()


def test_a_micro_batch_without_rows_has_no_targets_and_loss_zero(model: torch.nn.Module) -> None:
    objective = objective_of()
    empty = objective.micro_batches(rows_of(), 3, 2)[2]
    assert objective.num_targets(empty)[0] == objective.num_tokens(empty) == 0
    loss = objective.loss_sums(model, empty)
    assert loss.item() == 0.0
    loss.backward()
