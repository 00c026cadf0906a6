"""Spans are a function of seed, position and document, nothing is lost, and the loss is that of plain transformers."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from transformers import AutoModelForSeq2SeqLM

from llmcore.config.corruption import SpanSettings
from llmcore.errors import ConfigError
from llmcore.objectives.span_corruption import SpanCorruption
from llmcore.objectives.spans import corrupted, most_spans
from llmcore.tokens.schema import PackedRows
from llmcore.tokens.tokenizer import SpecialIds
from tests.unit.test_models_encoder_decoder import build

SPECIAL = SpecialIds(0, 1, 2)
SENTINELS = list(range(3, 13))
LENGTHS = [[16], [5, 3, 7], [1, 2, 9], [16], []]
"""Documents of rows of 16 tokens: some too short for a span, one row without any."""


def rows_of(first_position: int = 0) -> pa.Table:
    tokens = np.random.default_rng(0).integers(13, 60, (len(LENGTHS), 16), dtype=np.int32)
    for row, lengths in enumerate(LENGTHS):
        tokens[row, sum(lengths) :] = SPECIAL.pad
        if row != 3:  # the fourth row is the middle of a document
            ends = np.cumsum(lengths, dtype=int)
            tokens[row, ends - np.array(lengths, int)] = SPECIAL.begin
            tokens[row, ends - 1] = SPECIAL.end
    return PackedRows(tokens, LENGTHS, [[0] * len(row) for row in LENGTHS]).to_table(60, first_position)


def objective_of(**changes: object) -> SpanCorruption:
    return SpanCorruption(SpanSettings.model_validate(changes), SENTINELS, SPECIAL, 16, seed=2)


def put_back(source: list[int], target: list[int], sentinels: list[int]) -> list[int]:
    """What a reader does who knows the sentinels alone: each one in the source stands for what follows it."""
    spans: dict[int, list[int]] = {}
    for token in target:
        if token in sentinels:
            spans[token] = []
            last = token
        else:
            spans[last].append(token)
    return [token for seen in source for token in spans.get(seen, [seen])]


@given(
    length=st.integers(0, 200),
    share=st.floats(0.01, 0.99),
    mean_length=st.floats(1, 20),
    key=st.integers(0, 2**64 - 1),
)
@settings(deadline=None)
def test_nothing_is_lost_and_the_sentinels_stand_in_order(
    length: int, share: float, mean_length: float, key: int
) -> None:
    spans = SpanSettings(share=share, mean_length=mean_length)
    body = np.arange(1000, 1000 + length)
    sentinels = np.arange(most_spans(length, spans))
    source, target = (part.tolist() for part in corrupted(body, np.uint64(key), spans, sentinels))  # type: ignore[arg-type]
    assert put_back(source, target, sentinels.tolist()) == body.tolist()
    used = [token for token in target if token < 1000]
    assert used == [token for token in source if token < 1000] == list(range(len(used)))
    assert all(a >= 1000 or b >= 1000 for part in (source, target) for a, b in pairwise(part)), "no span is empty"
    assert len(target) <= length + 1 and len(source) <= length
    if length >= 2:
        noise = len(target) - len(used)
        assert abs(noise - length * share) <= 1 or noise in (1, length - 1)
        assert abs(len(used) - noise / mean_length) <= 1 or len(used) == length - noise


def test_every_division_into_spans_comes_equally_often() -> None:
    spans = SpanSettings(share=0.5, mean_length=2)
    found = [
        tuple(corrupted(np.arange(100, 108), np.uint64(key), spans, np.arange(2)).source.tolist())  # type: ignore[arg-type]
        for key in np.random.default_rng(0).integers(0, 2**63, 9000)
    ]
    counts = np.unique(found, axis=0, return_counts=True)[1]
    assert len(counts) == 9  # 3 ways to cut what stays times 3 to cut what goes
    assert counts == pytest.approx(np.full(9, 1000), rel=0.12)


@given(first=st.integers(0, 2**40), cut=st.integers(1, 7))
@settings(deadline=None, max_examples=20)
def test_a_row_has_the_same_spans_whoever_reads_it_and_others_in_another_epoch(first: int, cut: int) -> None:
    objective = objective_of(share=0.4)
    table = rows_of(first)
    whole = objective.micro_batches(table, 1, 5)[0]
    parts = objective.micro_batches(table, 3, 2)
    assert torch.equal(objective.targets(whole), torch.cat([objective.targets(part) for part in parts]))
    assert whole.num_tokens == sum(part.num_tokens for part in parts) == sum(map(sum, LENGTHS))
    read = [part.pair.source.tokens[~part.pair.source.padding_tokens()] for part in parts]
    assert torch.equal(whole.pair.source.tokens[~whole.pair.source.padding_tokens()], torch.cat(read))
    later = objective.micro_batches(rows_of(first + 5 * cut), 1, 5)[0]
    assert not torch.equal(objective.targets(whole), objective.targets(later))


def test_a_batch_has_all_documents_that_can_have_a_span_framed_as_they_were() -> None:
    objective = objective_of(share=0.4)
    batch = objective.micro_batches(rows_of(), 1, 5)[0]
    tokens = rows_of()["tokens"].to_pylist()
    documents = [
        row[sum(lengths[:index]) : sum(lengths[: index + 1])]
        for row, lengths in zip(tokens, LENGTHS, strict=True)
        for index in range(len(lengths))
        if lengths[index] > 3
    ]
    pairs = list(zip(_pieces(batch.pair.source), _pieces(batch.pair.target), strict=True))
    assert [put_back(source, target[:-1], SENTINELS) for source, target in pairs] == documents
    assert all(target[-1] == SPECIAL.end for _, target in pairs)
    assert objective.num_targets(batch) == (sum(len(target) for _, target in pairs),)


def _pieces(batch: object) -> list[list[int]]:
    pieces = batch.tokens.flatten().split(list(batch.lengths))  # type: ignore[attr-defined]
    return [piece.tolist() for piece, padding in zip(pieces, batch.padding, strict=True) if not padding]  # type: ignore[attr-defined]


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_loss_equals_plain_transformers_document_by_document(family: str, tmp_path: Path) -> None:
    model = build(family).eval()
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    plain = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager").eval()
    objective = objective_of(share=0.4)
    batch = objective.micro_batches(rows_of(), 1, 5)[0]
    total, hits = 0.0, 0
    for source, target in zip(_pieces(batch.pair.source), _pieces(batch.pair.target), strict=True):
        labels = torch.tensor(target)
        logits = plain(input_ids=torch.tensor([source]), labels=labels[None]).logits[0]
        total += functional.cross_entropy(logits, labels, reduction="sum").item()
        hits += int((logits.argmax(-1) == labels).sum())
    assert objective.loss_sums(model, batch).item() == pytest.approx(total, rel=1e-5)
    assert objective.loss_and_hits(model, batch).tolist() == pytest.approx([total, hits], rel=1e-5)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_a_micro_batch_without_rows_has_loss_zero_and_a_gradient_for_every_weight(family: str) -> None:
    objective, model = objective_of(), build(family)
    empty = objective.micro_batches(rows_of(), 6, 1)[5]
    assert objective.num_targets(empty)[0] == objective.num_tokens(empty) == 0
    loss = objective.loss_sums(model, empty)
    assert loss.item() == 0.0
    loss.backward()
    # ZeRO's ranks wait for each other at every weight.
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.parameters())


def test_too_few_sentinels_are_refused_with_the_numbers() -> None:
    with pytest.raises(ConfigError, match=r"document of 512 tokens has up to 26 spans, and the tokenizer 10 sentinels"):
        SpanCorruption(SpanSettings(), SENTINELS, SPECIAL, 512, seed=0)
    assert most_spans(512, SpanSettings()) == 26, "T5's figure: 77 tokens in spans of 3"
