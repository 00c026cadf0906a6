from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from llmcore.config.counterfactual import CounterfactualSettings
from llmcore.corpus.buckets import by_bucket, with_digests
from llmcore.corpus.counterfactual import CounterfactualCounts, Swapper, counterfactuals_of, with_counterfactuals
from llmcore.corpus.dedup import text_digests
from llmcore.corpus.read import DocumentReader

ENGLISH = CounterfactualSettings()
SCHEMA = DocumentReader("s", 0, "text", metadata=("year",)).schema()


def _documents(texts: list[str], split: str = "train") -> pa.Table:
    rows = [
        {"id": f"s/{n}", "text": text, "key": f"k{n}", "language": "en", "metadata": f'{{"year": "{n}"}}',
         "source": n % 2, "shard": 0, "row": n, "passage": 0}
        for n, text in enumerate(texts)
    ]  # fmt: skip
    table = with_digests(pa.Table.from_pylist(rows, SCHEMA), seed=3)
    return table.append_column("split", pa.array([split] * len(texts), pa.string()))


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("He saw her dog.", "She saw his dog."),
        ("She saw her.", "He saw him."),
        ("I told her that he saw her, and gave her the book", "I told him that she saw him, and gave him the book"),
        ("HER MOTHER AND Mr. King", "HIS FATHER AND Mrs. Queen"),
        ("The dog is his. Hers is his dog", "The dog is hers. His is her dog"),
        ("he's himself; (he) can't", "she's herself; (she) can't"),
        ("John gave Mary's sons a king", "Mary gave John's daughters a queen"),
        ("her", "him"),
        ("her\nown", "his\nown"),
    ],
)
def test_words_are_swapped_as_they_are_written(text: str, swapped: str) -> None:
    assert Swapper(ENGLISH).swapped(text)[0] == swapped


@pytest.mark.parametrize("text", ["", "the theme of the_he shed, s/he2", "hE hIs", "там он", " \n"])
def test_what_is_no_whole_word_of_a_pair_stays(text: str) -> None:
    assert Swapper(ENGLISH).swapped(text) == (text, Counter())


def test_swaps_are_counted_by_pair() -> None:
    _, counts = Swapper(ENGLISH).swapped("He and she saw her dog and him")
    assert counts == {"he/she": 2, "his/her": 1, "him/her": 1}


def test_one_letter_is_one_form_of_a_word() -> None:
    swapper = Swapper(CounterfactualSettings(pairs=[("a", "b"), ("a", "c")], function_words=["the"]))
    assert swapper.swapped("A x, A.")[0] == "B x, C."


# Without ambiguous words, swapping twice gives the text back.
@given(st.lists(st.sampled_from(["he", "She", "MAN", "woman", "x", ".", "\n", "mr", "é"]), max_size=20).map(" ".join))
@settings(deadline=None)
def test_swapping_twice_gives_the_text_back(text: str) -> None:
    swapper = Swapper(ENGLISH)
    once, counts = swapper.swapped(text)
    assert swapper.swapped(once) == (text, counts)
    assert (once != text) == bool(counts)


def test_a_copy_is_its_document_but_for_text_digest_and_id() -> None:
    documents = _documents(["he went", "it went", "his way", "she went in"])
    copies, counts = counterfactuals_of(documents, ENGLISH, seed=3)
    originals = {row["id"]: row for row in documents.to_pylist()}
    assert copies.schema == documents.schema
    for copy in copies.to_pylist():
        original = originals[copy["id"].removesuffix("#counterfactual")]
        assert copy["digest"] == text_digests([copy["text"]], 3)[0] != original["digest"]
        assert {**copy, "id": 0, "text": 0, "digest": 0} == {**original, "id": 0, "text": 0, "digest": 0}
    assert set(copies["text"].to_pylist()) == {"she went", "her way", "he went in"}
    assert counts == {
        0: CounterfactualCounts(2, 0, Counter({"he/she": 1, "his/her": 1})),
        1: CounterfactualCounts(1, 0, Counter({"he/she": 1})),
    }


def test_held_out_documents_are_not_copied() -> None:
    copies, counts = counterfactuals_of(_documents(["he went"], "test"), ENGLISH, seed=3)
    assert copies.num_rows == 0 and counts == {}


def test_a_share_is_chosen_by_digest_alone() -> None:
    half = CounterfactualSettings(share=0.5)
    documents = _documents([f"he went {n}" for n in range(400)])
    chosen = counterfactuals_of(documents, half, seed=3)[0]["id"].to_pylist()
    assert 160 < len(chosen) < 240
    backwards = documents.take(pa.array(range(399, -1, -1)))
    apart = [counterfactuals_of(part, half, seed=3)[0]["id"].to_pylist() for part in by_bucket(backwards, 5)]
    assert sorted(chosen) == sorted(name for part in apart for name in part)


def test_no_text_comes_twice_and_copies_are_mixed_in() -> None:
    train, test = _documents([f"he went {n}" for n in range(50)]), _documents(["she went 7", "she stayed"], "test")
    there = pa.concat_tables([train, test]).sort_by("digest")
    copies, _ = counterfactuals_of(train, ENGLISH, seed=3)
    later = copies.set_column(0, "id", pa.array([f"t/{name}" for name in copies["id"].to_pylist()]))
    twice = [copies.slice(0, 30), later.slice(10)]  # as of two documents that the swap makes equal
    table, counts = with_counterfactuals(there, twice)
    assert table["digest"].to_pylist() == sorted(set(table["digest"].to_pylist()))
    assert Counter(table["split"].to_pylist()) == {"train": 50 + 49, "test": 2}
    assert {source: count.duplicates for source, count in counts.items()} == {0: 10, 1: 10 + 1}
    assert sum(name.startswith("t/") for name in table["id"].to_pylist()) == 20, "of two the first by id stays"
    assert with_counterfactuals(there, twice[::-1])[0].equals(table)


def test_counts_add_up_and_show_the_most_frequent_pair_first() -> None:
    counts = CounterfactualCounts(2, 1, Counter({"a/b": 1}))
    counts.add(CounterfactualCounts(1, 0, Counter({"c/d": 3})))
    assert counts.to_json() == {"copies": 3, "duplicates": 1, "terms": {"c/d": 3, "a/b": 1}}
    assert list(counts.to_json()["terms"]) == ["c/d", "a/b"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs": []}, "pairs: name one at least"),
        ({"pairs": [["He", "she"]]}, r"\['He'\] are no single words in lower case"),
        ({"pairs": [["he", "he"]]}, r"\['he'\] are swapped with themselves"),
        ({"pairs": [["a", "b"], ["a", "c"], ["d", "a"]]}, r"\['a'\] stand in more than two pairs"),
        ({"function_words": ["of the"]}, r"\['of the'\] are no single words"),
        ({"share": 0}, "greater than 0"),
    ],
)
def test_what_cannot_be_swapped_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CounterfactualSettings.model_validate(changes)
