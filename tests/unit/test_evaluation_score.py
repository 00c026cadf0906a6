"""Predictions are of the rows in their order, however the texts are batched, and of the model that was recorded."""

from pathlib import Path

import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForSequenceClassification, GPT2Config, PreTrainedTokenizerFast

from llmcore.errors import CheckpointError
from llmcore.evaluation.score import Scorer
from llmcore.storage import Folder, publish, read_manifest
from llmcore.tasks.base import batches_of
from llmcore.tasks.text_classification import ClassExample, TextClassification

TASK = TextClassification(20, "macro_f1", ("a", "b", "c"))
TEXTS = ["open a path", "a", "", "join and strip and split", "zone of the clock", "b " * 30, "seek"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*alphabet, "<eos>", "<pad>"])}
    characters = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    characters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=characters, eos_token="<eos>", pad_token="<pad>")
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=32, n_embd=16, n_layer=1, n_head=2, initializer_range=0.5,
        id2label=dict(enumerate(TASK.label_names)), **ids,
    )  # fmt: skip
    folder = Folder(str(tmp_path_factory.mktemp("model")))
    with publish(folder, "model", {"task": TASK.about()}) as publication, publication.staging() as staged:
        AutoModelForSequenceClassification.from_config(config).save_pretrained(staged)
        tokenizer.save_pretrained(staged)
    return folder


def rows(texts: list[str]) -> pa.Table:
    numbers = range(len(texts))
    labels = pa.array([number % 3 for number in numbers], pa.int32())
    return pa.table({"id": [f"r{n}" for n in numbers], "text": texts, "label": labels, "group": ["g"] * len(texts)})


def test_predictions_do_not_depend_on_how_texts_are_batched(folder: Folder) -> None:
    scorer = Scorer.load(folder)
    alone = scorer.predict(rows(TEXTS), batch_tokens=1)
    for batch_tokens in (25, 4096):
        together = scorer.predict(rows(TEXTS), batch_tokens=batch_tokens)
        for one, other in zip(alone.table.to_pylist(), together.table.to_pylist(), strict=True):
            assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
            assert {**one, "probabilities": None} == {**other, "probabilities": None}
    assert alone.num_truncated == 2
    assert len({tuple(row["probabilities"]) for row in alone.table.to_pylist()}) == len(TEXTS)


def test_only_the_recorded_model_is_loaded(folder: Folder, tmp_path: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest is not None
    assert Scorer.load(folder, sha256=manifest.sha256).task == TASK
    with pytest.raises(CheckpointError, match="not the recorded 123"):
        Scorer.load(folder, sha256="123")
    with pytest.raises(CheckpointError, match="holds no complete model"):
        Scorer.load(Folder(str(tmp_path)))


@given(lengths=st.lists(st.integers(1, 40), max_size=30), batch_tokens=st.integers(1, 64))
def test_each_example_is_in_one_batch_and_none_is_too_large(lengths: list[int], batch_tokens: int) -> None:
    batches = list(batches_of([ClassExample([0] * length) for length in lengths], batch_tokens))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or sum(lengths[index] for index in batch) <= batch_tokens
