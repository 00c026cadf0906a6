"""What is done so that labels hang less on whom a text is about: copies, weights, samples, a consistent loss."""

from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, PreTrainedTokenizerFast

from llmcore.config.counterfactual import WordPairs
from llmcore.config.fairness import FairnessSettings
from llmcore.config.finetune import FinetuneSettings
from llmcore.config.task import TaskSettings
from llmcore.errors import CorpusError
from llmcore.tasks.base import Reader
from llmcore.tasks.compact import compact, compact_features
from llmcore.tasks.counterfactual import Counterfactuals
from llmcore.tasks.fair_classification import FairClassification, FairExample
from llmcore.tasks.mitigation import Learnt, balance_weights, learnt, sampled_rows
from llmcore.tasks.text_classification import TextClassification

TASK = TextClassification(max_tokens=32, validation_metric="macro_f1", label_names=("bad", "good"))
EOS, PAD = "<|endoftext|>", "<|pad|>"
TEXTS = ["He was brave .", "a dull film", "Her smile is warm .", "his dog saw her mother", "MR Smith and Mary"]


@cache
def reader() -> Reader:
    """Of words: those of the texts, and what is swapped in."""
    words = [EOS, PAD, *dict.fromkeys(" ".join([*TEXTS, "She His father Mary MRS John he she"]).split())]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token=PAD))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return Reader(PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, pad_token=PAD), GPT2Config())


def rows(texts: list[str] = TEXTS, labels: list[int] | None = None, **more: Any) -> pa.Table:
    numbers = [str(number) for number in range(len(texts))]
    label = pa.array(labels if labels is not None else [number % 2 for number in range(len(texts))], pa.int32())
    return pa.table({"id": numbers, "text": texts, "label": label, "group": numbers, **more})


def test_counterfactuals_of_rows_that_name_somebody() -> None:
    swapped, places = Counterfactuals(WordPairs()).of(rows(), ["text"])
    assert places == [0, 2, 3, 4]
    assert swapped["text"].to_pylist() == [
        "She was brave .",
        "His smile is warm .",
        "her dog saw his father",
        "MRS Smith and John",
    ]
    assert swapped["id"].to_pylist() == [f"{place}#counterfactual" for place in places]
    assert swapped["label"].to_pylist() == [0, 0, 1, 0] and swapped.schema == rows().schema


def test_counterfactuals_of_conversations() -> None:
    said = [{"role": "user", "content": "Who is he?"}, {"role": "assistant", "content": "My brother."}]
    table = pa.table({"id": ["a"], "messages": [said]})
    swapped, _ = Counterfactuals(WordPairs()).of(table, ["messages"])
    assert [one["content"] for one in swapped["messages"][0].as_py()] == ["Who is she?", "My sister."]


def test_which_group_a_row_names_more_often() -> None:
    texts = ["He and his son met her.", "she", "nobody", "the king and the queen"]
    assert Counterfactuals(WordPairs()).leaning(rows(texts), ["text"]) == ["first", "second", "neither", "neither"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), min_size=1, max_size=200))
def test_weights_make_labels_independent_of_groups(cells: list[tuple[str, int]]) -> None:
    groups, labels = [group for group, _ in cells], np.array([label for _, label in cells])
    weights = balance_weights(groups, labels)
    assert weights.mean() == pytest.approx(1)
    whole = len(set(cells)) == len(set(groups)) * len(set(labels.tolist()))
    if whole:  # each group has rows of each label
        member = np.array(groups)
        for label in set(labels.tolist()):
            share = (labels == label).mean()
            for group in set(groups):
                of_group = member == group
                assert weights[of_group & (labels == label)].sum() / weights[of_group].sum() == pytest.approx(share)


def test_weights_by_hand() -> None:
    """Women: 3 of 4 are `good`; men: 1 of 4. Each cell weighs 2 over its rows."""
    weights = balance_weights(["f"] * 4 + ["m"] * 4, np.array([1, 1, 1, 0, 0, 0, 0, 1]))
    assert weights == pytest.approx([2 / 3] * 3 + [2] + [2 / 3] * 3 + [2])


@given(st.lists(st.sampled_from([0.25, 0.5, 2 / 3, 1.0, 1.5, 4.0]), min_size=1, max_size=120))
def test_a_sample_has_as_many_rows_each_as_often_as_it_weighs(given_weights: list[float]) -> None:
    weights = np.array(given_weights) / np.mean(given_weights)
    places = sampled_rows(weights)
    assert len(places) == len(weights)
    counts = np.bincount(places, minlength=len(weights))
    assert (np.abs(counts - weights) < 1 + 1e-9).all()
    for weight in np.unique(weights):
        alike = weights == weight
        assert abs(counts[alike].sum() - weights[alike].sum()) < 1 + 1e-9


def _learnt(table: pa.Table, **fairness: Any) -> Learnt:
    return learnt(TASK, reader(), table, FairnessSettings(**fairness))


def test_nothing_is_done_where_nothing_is_asked() -> None:
    plain = learnt(TASK, reader(), rows(), None)
    measured = _learnt(rows())
    assert plain.objective is TASK and measured.objective is TASK
    assert plain.examples == measured.examples == compact_features(TASK.features, reader(), rows()).examples


def test_copies_stand_behind_the_rows_with_their_labels() -> None:
    found = _learnt(rows(), augment=1.0)
    assert found.num_rows == len(found.examples) == 9
    assert [example.classes for example in found.examples] == [(0,), (1,), (0,), (1,), (0,), (0,), (0,), (1,), (0,)]
    assert found.examples[5] == compact(TASK.features(reader(), rows(["She was brave ."])).examples[0])
    assert _learnt(rows(), augment=0.5).num_rows == 7


def test_rows_weigh_by_their_group_and_label() -> None:
    table = rows(["he"] * 4 + ["she"] * 4, [1, 1, 1, 0, 0, 0, 0, 1])
    by_words = _learnt(table, balance="reweight")
    assert [one.weight for one in by_words.examples] == pytest.approx([2 / 3] * 3 + [2] + [2 / 3] * 3 + [2])
    by_column = _learnt(table.append_column("side", pa.array(["x", "y"] * 4)), balance="reweight", balance_by="side")
    assert [one.weight for one in by_column.examples] == pytest.approx([1.0] * 8)
    sampled = _learnt(table, balance="sample")
    assert sampled.objective is TASK and sampled.num_rows == 8
    named = Counter((tuple(one.tokens), one.classes) for one in sampled.examples)
    assert sorted(named.values()) == [2, 2, 2, 2]
    with pytest.raises(CorpusError, match=r"fairness.balance_by='other' is no metadata column"):
        _learnt(table, balance="sample", balance_by="other")


def test_the_loss_is_the_tasks_where_all_weigh_alike_and_grows_with_what_is_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = _learnt(rows(), consistency=0.5)
    objective, examples = found.objective, found.examples
    assert isinstance(objective, FairClassification)
    assert [one.twin is not None for one in examples] == [True, False, True, True, True]
    batch = objective.collate(examples)
    assert objective.num_targets(batch) == (5,), "a counterfactual is no target of its own"
    logits = torch.randn(9, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    monkeypatch.setattr(TextClassification, "logits", lambda self, model, given: logits)
    own = TASK.collate([one.example for one in examples])
    cross_entropy = torch.nn.functional.cross_entropy(logits[:5], own.targets.argmax(-1), reduction="sum")
    apart = sum((logits[place] - logits[5 + number]).abs().mean() for number, place in enumerate((0, 2, 3, 4)))
    assert objective.loss_sums(None, batch).item() == pytest.approx((cross_entropy + 0.5 * apart).item(), rel=1e-6)
    weighed = objective.collate([one._replace(weight=2.0) for one in examples])
    assert objective.loss_sums(None, weighed).item() == pytest.approx(
        (2 * cross_entropy + 0.5 * apart).item(), rel=1e-6
    )
    alone = objective.collate([objective.without_target(examples[0])])
    assert objective.num_targets(alone) == (0,) and alone.num_places == 1
    objective.loss_sums(None, batch).backward()
    assert logits.grad is not None and bool(logits.grad[5:].any())


def test_a_batch_moves_to_a_device_whole() -> None:
    batch = FairClassification(TASK, 1.0).collate([FairExample(TASK.features(reader(), rows()).examples[0])])
    moved = batch.to(torch.device("cpu"))
    assert moved.pairs.shape == (2, 0) and moved.weights.tolist() == [1.0]


@pytest.mark.parametrize(
    ("task", "fairness", "said"),
    [
        ({"kind": "translation"}, {"augment": 1}, "the words of a translation row cannot be swapped"),
        ({"kind": "summarization"}, {"balance": "sample"}, "fairness.balance is of text_classification by a head"),
        ({"answer": "text"}, {"consistency": 1}, "and the task is text_classification by writing"),
        ({}, {"balance_by": "gender"}, "balance_by='gender' is read by `balance` alone"),
        ({}, {"words": {"pairs": [["he", "he"]]}}, "swapped with themselves"),
    ],
)
def test_what_does_not_suit_the_task_is_refused(task: dict[str, Any], fairness: dict[str, Any], said: str) -> None:
    train = {"num_steps": 1, "global_batch_size": 8, "micro_batch_size": 4}
    with pytest.raises(ValidationError, match=said):
        FinetuneSettings.model_validate({"task": TaskSettings(**task), "fairness": fairness, "train": train})
