from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from llmcore.config.prepare import PrepareConfig
from llmcore.corpus.balance import NONE, Balance, count_only, only_groups
from llmcore.corpus.buckets import with_digests
from llmcore.corpus.dedup import uniforms_of

TERMS = [["she", "her"], ["he"]]


def _documents(texts: list[str], splits: list[str] | None = None) -> pa.Table:
    columns = {"text": texts, "source": pa.array([n % 2 for n in range(len(texts))], pa.int16())}
    return with_digests(pa.table(columns | {"split": splits or ["train"] * len(texts)}), seed=0)


def test_the_one_group_that_a_train_document_names() -> None:
    texts = ["She saw her.", "he", "he and she", "it", "", "HE!", "The theme."]
    splits = ["train", "train", "train", "train", "train", "test", "train"]
    documents = _documents(texts, splits)
    only = only_groups(documents, TERMS)
    assert only.tolist() == [0, 1, NONE, NONE, NONE, NONE, NONE]
    assert count_only(documents, only) == {0: {0: 1}, 1: {1: 1}}


def test_shares_are_of_the_rarest_group_of_each_source() -> None:
    counts = {0: Counter({0: 50, 1: 200}), 1: Counter({0: 104, 1: 100}), 2: Counter({0: 0, 1: 9}), 3: Counter[int]()}
    assert Balance.of(counts, 2, 1.05).shares == {0: [1.0, 0.25], 1: [1.0, 1.0], 2: [1.0, 1.0], 3: [1.0, 1.0]}
    assert Balance.of({0: Counter({0: 104, 1: 100})}, 2, 1.0).shares == {0: [100 / 104, 1.0]}


def test_what_is_dropped_depends_on_the_digests_alone_and_balances() -> None:
    texts = [f"{'he' if n % 8 else 'she'} went {n}" for n in range(0, 4000)]
    documents = _documents(texts)
    only = only_groups(documents, TERMS)
    rule = Balance.of(count_only(documents, only), 2, 1.05)
    dropped = rule.dropped(documents, only)
    gone = {texts[row] for row in dropped.tolist()}
    assert all(text.startswith("he ") for text in gone)
    kept = [text for text in texts[::2] if text not in gone]  # source 0 has all documents that name her
    numbers = Counter(text.split()[0] for text in kept)
    assert numbers["she"] == 500 and abs(numbers["he"] - 500) < 4 * np.sqrt(500)
    assert not gone & set(texts[1::2]), "in source 1 nobody names her: there is nothing to balance against"
    order = np.random.default_rng(0).permutation(len(texts))
    for part in np.array_split(order, 3):
        again = documents.take(pa.array(part))
        rows = rule.dropped(again, only_groups(again, TERMS))
        assert {again["text"][row].as_py() for row in rows.tolist()} == gone & {texts[at] for at in part}


def test_an_empty_bucket_has_nothing_to_drop() -> None:
    nothing = _documents(["x"]).slice(0, 0)
    only = only_groups(nothing, TERMS)
    assert count_only(nothing, only) == {} and Balance({}).dropped(nothing, only).tolist() == []


def test_numbers_by_digest_are_uniform_and_of_another_purpose_others() -> None:
    documents = _documents([str(n) for n in range(5000)])
    one, two = uniforms_of(documents, "one"), uniforms_of(documents, "two")
    assert one.min() >= 0 and one.max() < 1
    assert np.abs(np.histogram(one, 10, (0, 1))[0] - 500).max() < 100
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.05
    assert uniforms_of(documents.slice(7, 9), "one").tolist() == one[7:16].tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"balance": {}}, r"balance needs two groups of `group_terms` or more, not \[\]"),
        ({"balance": {"groups": ["male"]}, "group_terms": {}}, r"two groups .* or more, not \['male'\]"),
        ({"balance": {"groups": ["male", "old"]}, "group_terms": {}}, r"\['old'\] are none of .*'female', 'male'"),
        ({"balance": {"tolerance": 0.9}, "group_terms": {}}, "greater than or equal to 1"),
    ],
)
def test_a_balance_of_what_is_not_there_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PrepareConfig.model_validate({"name": "x", "sources": [{"name": "a", "url": "/a"}], **changes})


def test_all_groups_are_balanced_unless_some_are_named() -> None:
    given = {"name": "x", "sources": [{"name": "a", "url": "/a"}]}
    groups = {"groups": {"a": ["x"], "b": ["y"], "c": ["z"]}}
    every = PrepareConfig.model_validate(given | {"group_terms": groups, "balance": {}})
    some = PrepareConfig.model_validate(given | {"group_terms": groups, "balance": {"groups": ["c", "a"]}})
    assert list(every.balanced_groups()) == ["a", "b", "c"] and some.balanced_groups() == {"c": ["z"], "a": ["x"]}
    assert PrepareConfig.model_validate(given).balanced_groups() == {}
