import random
from collections import Counter
from itertools import pairwise

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from llmcore.corpus.buckets import (
    Census,
    SplitRule,
    make_bucket,
    num_buckets_for,
    partition,
    sample_texts,
    with_digests,
)
from llmcore.corpus.dedup import DIGEST_BYTES, buckets_of, text_digests
from llmcore.corpus.read import DocumentReader
from llmcore.corpus.split import Shares

SCHEMA = DocumentReader("s", 0, "text").schema()
RANK = {"test": 0, "validation": 1, "train": 2}
Document = tuple[str | None, str | None]


def _table(documents: list[Document]) -> pa.Table:
    rows = [
        {"id": f"s/{n:03d}", "text": text, "key": key, "stratum": None, "source": 0, "shard": 0, "row": n}
        for n, (text, key) in enumerate(documents)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _buckets(
    documents: list[Document], num_buckets: int, cuts: list[int]
) -> tuple[list[pa.Table], Counter[str], SplitRule]:
    """The documents read in blocks of some sizes, and the blocks in some order."""
    table = _table(documents)
    bounds = sorted({0, len(documents), *(cut % (len(documents) + 1) for cut in cuts)})
    blocks = [table.slice(start, stop - start) for start, stop in pairwise(bounds)]
    random.Random(sum(cuts)).shuffle(blocks)
    census, parted = Census(), []
    for block in blocks or [table]:
        parts, counted = partition(with_digests(block, seed=0), num_buckets)
        parted.append(parts)
        census.add(counted)
    rule = SplitRule.of(census, Shares(0.2, 0.2), seed=0)
    dropped = Counter({"empty": census.empty})
    tables = []
    for bucket in range(num_buckets):
        kept, left_out = make_bucket([parts[bucket] for parts in parted], rule)
        tables.append(kept)
        dropped.update(left_out)
    return tables, dropped, rule


documents_of_few_texts = st.lists(
    st.tuples(st.sampled_from([None, "", *"abcdefgh"]), st.sampled_from([None, *"KLMNOP"])), max_size=40
)


@given(documents=documents_of_few_texts, num_buckets=st.integers(1, 5), cuts=st.lists(st.integers(0, 40), max_size=5))
def test_one_copy_of_each_text_stays_the_most_held_out_and_first_by_id(
    documents: list[Document], num_buckets: int, cuts: list[int]
) -> None:
    tables, dropped, rule = _buckets(documents, num_buckets, cuts)
    kept = {row["text"]: row for table in tables for row in table.to_pylist()}
    assert sum(table.num_rows for table in tables) == len(kept)
    by_text: dict[str, list[tuple[int, str]]] = {}
    table = _table(documents)
    full = table.filter(pa.array([bool(text) for text, _ in documents], pa.bool_()))
    for row, split in zip(full.to_pylist(), rule.splits(full), strict=True):
        by_text.setdefault(row["text"], []).append((RANK[split], row["id"]))
    assert {text: (RANK[row["split"]], row["id"]) for text, row in kept.items()} == {
        text: min(copies) for text, copies in by_text.items()
    }
    assert dropped["empty"] == sum(not text for text, _ in documents)
    across = sum(rank != min(copies)[0] for copies in by_text.values() for rank, _ in copies)
    assert dropped["duplicate_of_held_out"] == across
    assert dropped.total() == len(documents) - len(kept)


@given(documents=documents_of_few_texts, cuts=st.lists(st.integers(0, 40), min_size=1, max_size=5))
def test_buckets_do_not_depend_on_blocks_or_their_order(documents: list[Document], cuts: list[int]) -> None:
    one, two = _buckets(documents, 3, [])[0], _buckets(documents, 3, cuts)[0]
    assert [table.to_pylist() for table in one] == [table.to_pylist() for table in two]


def test_a_block_of_nothing_without_columns_changes_nothing() -> None:
    parts, census = partition(pa.table({}), 2)
    assert census == Census()
    full, counted = partition(with_digests(_table([("one", "K"), ("two", None)]), seed=0), 2)
    rule = SplitRule.of(counted, Shares(0.2, 0.2), seed=0)
    for bucket in range(2):
        assert make_bucket([parts[bucket], full[bucket]], rule) == make_bucket([full[bucket]], rule)


def test_the_bucket_of_a_digest_is_the_same_in_a_slice() -> None:
    digests = pa.array(text_digests(map(str, range(40)), seed=0), pa.binary(DIGEST_BYTES))
    whole = buckets_of(digests, 7)
    assert set(whole.tolist()) == set(range(7))
    assert buckets_of(digests.slice(7, 9), 7).tolist() == whole[7:16].tolist()


def test_documents_of_a_bucket_are_a_mix() -> None:
    (bucket,), _, _ = _buckets([(f"text {number}", None) for number in range(200)], 1, [])
    rows = bucket["row"].to_pylist()
    assert sorted(rows) == list(range(200))
    assert sum(abs(one - two) for one, two in pairwise(rows)) > 200 * 40


def test_a_key_of_two_strata_is_of_the_more_frequent() -> None:
    census = Census(keys={"k": Counter({"a": 1, "b": 2}), "l": Counter({"b": 1, "a": 1})})
    census.add(Census(keys={"k": Counter({"a": 3})}))
    assert {key: tuple(size) for key, size in census.key_sizes().items()} == {"k": ("a", 6), "l": ("a", 2)}


def test_samples_stay_within_their_bytes_and_cut_no_character() -> None:
    (bucket,), _, _ = _buckets([("é" * number, None) for number in range(1, 30)], 1, [])
    whole = sample_texts(bucket, "train", 10_000)
    assert set(whole) == {row["text"] for row in bucket.to_pylist() if row["split"] == "train"}
    for limit in range(40):
        sample = sample_texts(bucket, "train", limit)
        assert sum(len(text.encode()) for text in sample) in (limit, limit - 1)
        assert "".join(whole).startswith("".join(sample))


def test_the_number_of_buckets_follows_from_the_bytes_alone() -> None:
    assert [num_buckets_for(size) for size in (0, 1, 3 << 20, 1 << 30, 100 << 30)] == [1, 1, 6, 16, 1600]
