"""Documents whose middle stands last: nothing is lost, each by its own key, and all of it is learnt."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from transformers import AutoModelForCausalLM

from llmcore.config.corruption import InfillingSettings
from llmcore.config.model import ModelSettings
from llmcore.models.build import build_language_model, model_config
from llmcore.objectives.causal_lm import CausalLM
from llmcore.objectives.documents import Document
from llmcore.objectives.infilling import FillInTheMiddle, taken_apart
from llmcore.tokens.marks import InfillingMarks
from llmcore.tokens.schema import PackedRows
from llmcore.tokens.tokenizer import SpecialIds
from tests.unit.test_models_packed import SIZES

SPECIAL = SpecialIds(0, 1, 2)
MARKS = InfillingMarks(prefix=3, middle=4, suffix=5)
LENGTHS = [[16], [5, 3, 7], [1, 2, 9], []]
NOTHING = np.zeros(0, np.int64)


def rows_of(first_position: int = 0) -> pa.Table:
    tokens = np.random.default_rng(0).integers(6, 50, (len(LENGTHS), 16), dtype=np.int32)
    for row, lengths in enumerate(LENGTHS):
        tokens[row, sum(lengths) :] = SPECIAL.pad
        tokens[row, np.cumsum(lengths, dtype=int) - 1] = SPECIAL.end
    return PackedRows(tokens, LENGTHS, [[0] * len(row) for row in LENGTHS]).to_table(50, first_position)


def objective_of(**changes: object) -> FillInTheMiddle:
    return FillInTheMiddle(InfillingSettings.model_validate(changes), MARKS, SPECIAL, seed=2)


def put_back(tokens: list[int]) -> list[int]:
    """The document that a reader who knows the marks alone makes of it."""
    if MARKS.middle not in tokens:
        return tokens
    first, last = tokens.index(MARKS.prefix), tokens[-1:] if tokens[-1] == SPECIAL.end else []
    begin, inside = tokens[:first], tokens[first + 1 : len(tokens) - len(last)]
    before, middle = inside[: inside.index(MARKS.middle)], inside[inside.index(MARKS.middle) + 1 :]
    at = before.index(MARKS.suffix)
    prefix, suffix = before[:at], before[at + 1 :]
    # SPM has nothing before the suffix, and prefix and middle as one text after it: the same formula.
    return [*begin, *prefix, *middle, *suffix, *last]


@given(
    length=st.integers(0, 60),
    begins=st.booleans(),
    ends=st.booleans(),
    suffix_first=st.sampled_from([0.0, 0.5, 1.0]),
    key=st.integers(0, 2**64 - 1),
)
@settings(deadline=None)
def test_nothing_is_lost(length: int, begins: bool, ends: bool, suffix_first: float, key: int) -> None:
    begin, end = (np.array([number] * given) for number, given in ((SPECIAL.begin, begins), (SPECIAL.end, ends)))
    body = np.arange(100, 100 + length)
    document = Document(begin.astype(np.int64), body, end.astype(np.int64), np.uint64(key))  # type: ignore[arg-type]
    found = taken_apart(document, InfillingSettings(share=1, suffix_first=suffix_first), MARKS).tolist()
    assert put_back(found) == [*begin.tolist(), *body.tolist(), *end.tolist()]
    assert len(found) == begins + length + ends + 3
    if suffix_first in (0, 1) and length:
        is_spm = found[begins : begins + 2] == [MARKS.prefix, MARKS.suffix]
        assert is_spm or suffix_first == 0


def test_the_shares_are_those_asked_for_and_cuts_are_everywhere() -> None:
    keys = np.random.default_rng(1).integers(0, 2**63, 4000).astype(np.uint64)
    body = np.arange(100, 109)
    settings = InfillingSettings(share=0.6, suffix_first=0.25)
    found = [taken_apart(Document(NOTHING, body, NOTHING, key), settings, MARKS).tolist() for key in keys]  # type: ignore[arg-type]
    apart = [tokens for tokens in found if MARKS.middle in tokens]
    assert len(apart) / len(found) == pytest.approx(0.6, abs=0.03)
    psm = [tokens for tokens in apart if tokens[1] != MARKS.suffix]
    # A PSM whose prefix is empty looks like an SPM: of 10 × 10 pairs of cuts, those with one at 0, 19 in 100.
    assert len(psm) / len(apart) == pytest.approx(0.75 * 0.81, abs=0.03)
    assert {tokens.index(MARKS.suffix) for tokens in psm} == set(range(2, 11))


@given(first=st.integers(0, 2**40), cut=st.integers(1, 7))
@settings(deadline=None, max_examples=20)
def test_a_document_is_taken_apart_alike_whoever_reads_it_and_otherwise_in_another_epoch(first: int, cut: int) -> None:
    objective = objective_of(share=1)
    whole = objective.micro_batches(rows_of(first), 1, 4)[0]
    parts = objective.micro_batches(rows_of(first), 2, 2)
    assert torch.equal(whole.tokens, torch.cat([part.tokens for part in parts], dim=1))
    later = objective.micro_batches(rows_of(first + 4 * cut), 1, 4)[0]
    assert not torch.equal(whole.tokens, later.tokens)


def test_a_micro_batch_has_all_documents_and_learns_all_tokens() -> None:
    objective = objective_of()
    batch = objective.micro_batches(rows_of(), 1, 4)[0]
    pieces = [piece.tolist() for piece in batch.tokens.flatten().split(list(batch.lengths))]
    rows = rows_of()["tokens"].to_pylist()
    documents = [
        row[sum(lengths[:index]) : sum(lengths[: index + 1])]
        for row, lengths in zip(rows, LENGTHS, strict=True)
        for index in range(len(lengths))
    ]
    assert [put_back(piece) for piece in pieces] == documents
    assert pieces != documents
    assert objective.num_targets(batch) == (sum(map(len, pieces)) - len(pieces),)
    assert objective.num_tokens(batch) == sum(map(len, pieces))


@pytest.mark.parametrize("family", sorted(SIZES))
def test_loss_equals_plain_transformers_and_the_longest_document_has_its_positions(family: str, tmp_path: Path) -> None:
    settings = ModelSettings(family=family, sizes=SIZES[family])  # type: ignore[arg-type]
    objective = objective_of(share=1)
    length = 16 + objective.num_extra_positions
    config = model_config(settings, vocab_size=50, sequence_length=length, eos_id=0, pad_id=1)
    model = build_language_model("fill_in_the_middle", config, seed=3).eval()
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    batch = objective.micro_batches(rows_of(), 1, 4)[0]
    pieces = batch.tokens.flatten().split(list(batch.lengths))
    assert max(batch.lengths) == length
    total = sum(
        functional.cross_entropy(plain(input_ids=piece[None]).logits[0, :-1], piece[1:], reduction="sum").item()
        for piece in pieces
        if len(piece) > 1
    )
    assert objective.loss_sums(model, batch).item() == pytest.approx(total, rel=1e-5)


def test_a_micro_batch_without_rows_has_no_targets_and_loss_zero() -> None:
    settings = ModelSettings(family="gpt2", sizes=SIZES["gpt2"])
    config = model_config(settings, vocab_size=50, sequence_length=19, eos_id=0, pad_id=1)
    model = build_language_model("fill_in_the_middle", config, seed=3)
    empty = objective_of().micro_batches(rows_of(), 3, 2)[2]
    assert CausalLM().num_targets(empty)[0] == CausalLM().num_tokens(empty) == 0
    loss = objective_of().loss_sums(model, empty)
    assert loss.item() == 0.0
    loss.backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.parameters())
