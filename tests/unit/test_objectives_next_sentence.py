"""BERT's two losses are those of plain transformers, pair by pair; each is divided by its own number."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn
from transformers import AutoModelForPreTraining, AutoModelForSequenceClassification, AutoTokenizer, BertForPreTraining

from llmcore.config.model import ModelSettings
from llmcore.config.pretrain import PretrainConfig
from llmcore.models.build import build_language_model, model_config
from llmcore.models.packed import hidden_states
from llmcore.objectives.next_sentence import PairBatch
from llmcore.tasks.base import Reader
from llmcore.tasks.text_classification import TextClassification
from llmcore.tokens.schema import FOLLOWS, RANDOM, of_one_piece
from llmcore.tokens.tokenizer import OWN_BEGIN, OWN_IDS, hugging_face_files, train_tokenizer
from tests.sentence_pairs import (
    CLS,
    LENGTH,
    PIECES,
    SIZES,
    VOCAB_SIZE,
    VOCABULARY,
    bert,
    objective_of,
    plain_losses,
    rows_of,
)


def whole_batch(**changes: object) -> PairBatch:
    return objective_of(**changes).micro_batches(rows_of(), 1, len(PIECES))[0]


@pytest.fixture
def model() -> nn.Module:
    return bert().eval()


def test_both_losses_equal_plain_transformers_pair_by_pair(model: nn.Module, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    plain = AutoModelForPreTraining.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert isinstance(plain, BertForPreTraining)
    batch, objective = whole_batch(share=0.4), objective_of(share=0.4)
    original = torch.tensor(rows_of()["tokens"].to_pylist())
    sums, hits, counts = np.zeros(2), np.zeros(2), np.zeros(2, int)
    for told in plain_losses(plain, batch, original, [*range(len(PIECES))]):
        for part, (logits, wanted) in enumerate((told[:2], told[2:])):
            sums[part] += nn.functional.cross_entropy(logits, wanted, reduction="sum").item()
            hits[part] += (logits.argmax(-1) == wanted).sum().item()
            counts[part] += (wanted != -100).sum().item()
    assert objective.num_targets(batch) == tuple(counts) and counts[0] > 8 and counts[1] == 4
    assert objective.loss_sums(model, batch).tolist() == pytest.approx(sums.tolist(), rel=1e-5)
    measured = objective.loss_and_hits(model, batch).tolist()
    assert measured == pytest.approx([sums[0], hits[0], sums[1], hits[1]], rel=1e-5)


def test_special_tokens_are_never_masked_and_token_types_begin_after_the_first_end() -> None:
    batch, tokens = whole_batch(share=0.9), torch.tensor(rows_of()["tokens"].to_pylist())
    assert not torch.from_numpy(VOCABULARY.is_special)[batch.masked.targets].any()
    types = batch.masked.seen.token_types
    assert types is not None
    for row, pieces in enumerate(PIECES):
        expected = []
        for length, second in pieces:
            expected += [0] * (second.start or length) + [1] * (length - second.start if second.start else 0)
        assert types[row, : len(expected)].tolist() == expected
        assert not types[row, len(expected) :].any()
    assert (tokens.flatten()[batch.firsts] == CLS).all()


def test_a_row_is_the_same_whoever_reads_it(model: nn.Module) -> None:
    parts = objective_of().micro_batches(rows_of(), 5, 1)
    whole = whole_batch()
    assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)
    assert whole.labels.tolist() == [FOLLOWS, RANDOM, FOLLOWS, RANDOM]
    sums = [objective_of().loss_sums(model, part) for part in parts]
    assert torch.allclose(torch.stack(sums).sum(0), objective_of().loss_sums(model, whole), rtol=1e-5)
    assert objective_of().num_targets(parts[4]) == (0, 0), "a micro batch without rows"
    sums[4].sum().backward()
    [none] = objective_of().micro_batches(rows_of().schema.empty_table(), 1, 1)  # of a rank that has none to validate
    assert objective_of().loss_and_hits(model, none).tolist() == [0, 0, 0, 0]
    assert objective_of().num_tokens(whole) == 16 + 16 + 9 + 4


def test_the_longest_batch_is_a_pair_in_each_row_that_has_one_first(model: nn.Module) -> None:
    """A dry step takes it, before the first step on a GPU."""
    [batch] = objective_of().micro_batches(of_one_piece(rows_of()), 1, len(PIECES))
    assert batch.masked.seen.lengths == (LENGTH,) * len(PIECES)
    assert batch.labels.tolist() == [FOLLOWS, RANDOM, RANDOM]
    assert objective_of().loss_sums(model, batch).isfinite().all()


def test_changing_one_pair_moves_no_other(model: nn.Module) -> None:
    seen = whole_batch().masked.seen
    assert seen.token_types is not None
    before = hidden_states(model, seen)
    tokens, types = seen.tokens.clone(), seen.token_types.clone()
    tokens[1, 6:11] = 5 + (tokens[1, 6:11] + 1) % (VOCAB_SIZE - 5)
    types[1, 6:11] = 1
    for changed in (replace(seen, tokens=tokens), replace(seen, token_types=types)):
        moved = (before != hidden_states(model, changed)).any(-1)
        assert moved[1, 6:11].all()
        moved[1, 6:11] = False
        assert not moved.any()


def test_what_is_exported_classifies_as_a_plain_pipeline_frames_texts(tmp_path: Path) -> None:
    texts = ["Open a file.", "Return the local time as a tuple, since the epoch.", "Strip blanks"]
    tokenizer = train_tokenizer(texts * 2, 330)
    config = model_config(
        ModelSettings(family="bert", sizes=SIZES), vocab_size=330, sequence_length=32, eos_id=OWN_IDS.end, pad_id=1
    )
    base = build_language_model("next_sentence", config, seed=1)
    base.save_pretrained(tmp_path)  # type: ignore[operator]
    for name, data in hugging_face_files(tokenizer, 32, begin=True, token_types=True).items():
        (tmp_path / name).write_bytes(data)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    pair = loaded(texts[0], texts[1])
    second = pair["input_ids"].index(OWN_IDS.end) + 1
    assert pair["input_ids"][0] == OWN_BEGIN and pair["token_type_ids"].index(1) == second
    task = TextClassification(24, "macro_f1", ("a", "b"))
    model = task.build_model(tmp_path, seed=3, random_weights=False).eval()
    assert torch.equal(model.bert.pooler.dense.weight, base.bert.pooler.dense.weight), "the pooler is pre-trained"
    with torch.no_grad():
        ours = task.logits(model, task.collate(task.features(Reader.of(tmp_path), pa.table({"text": texts})).examples))
        model.save_pretrained(tmp_path / "tuned")  # type: ignore[operator]
        plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "tuned").eval()
        framed = loaded(texts, padding=True, truncation=True, max_length=24, return_tensors="pt")
        assert "token_type_ids" in framed
        theirs = plain(**framed).logits
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "causal_lm"}, "goes with objective=masked_lm, not causal_lm"),
        (
            {"objective": "masked_lm", "model": {"family": "roberta"}},
            "with next_sentence=true trains bert, not roberta",
        ),
        (
            {
                "objective": "masked_lm",
                "model": {"family": "bert"},
                "tokens": None,
                "stream": {"sources": [{"name": "a", "url": "/x"}]},
            },
            "packing.sentence_pairs=false and next_sentence=true",
        ),
    ],
)
def test_what_cannot_learn_from_pairs_is_refused(changes: dict[str, object], message: str) -> None:
    given = {"name": "x", "tokens": "p", "next_sentence": True, "train": {"num_steps": 1}} | changes
    with pytest.raises(ValueError, match=message):
        PretrainConfig.model_validate(given)
