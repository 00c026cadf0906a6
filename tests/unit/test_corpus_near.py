import random
import re
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcore.corpus.near import Banding, Shingles, band_keys, candidate_pairs, shingles_of, similarities, sketch
from llmcore.corpus.verdicts import News, Verdicts

WORDS = [f"w{number}" for number in range(400)]


def _plain_shingles(text: str, size: int) -> set[tuple[str, ...]]:
    """The definition, word by word."""
    words = re.findall(r"[^\W_]+", text.lower()) or ["".join(text.split())]
    return {tuple(words[at : at + size]) for at in range(max(1, len(words) - size + 1))}


def _jaccard(a: set[Any], b: set[Any]) -> float:
    return len(a & b) / len(a | b)


@given(
    texts=st.lists(st.text(alphabet="aAbB \n.,-9é", min_size=1, max_size=60), min_size=2, max_size=6),
    size=st.integers(1, 4),
)
@settings(deadline=None)
def test_similarities_are_those_of_the_definition(texts: list[str], size: int) -> None:
    sets = shingles_of(pa.array(texts), size).sets()
    plain = [_plain_shingles(text, size) for text in texts]
    assert [len(found) for found in sets] == [len(found) for found in plain]
    expected = [_jaccard(a, b) for a, b in pairwise(plain)]
    assert list(similarities(sets[:-1], sets[1:])) == pytest.approx(expected)


def _alike(rng: random.Random, words: list[str], share: float) -> list[str]:
    return [rng.choice(WORDS) if rng.random() < share else word for word in words]


def test_signatures_agree_as_often_as_sets_are_alike() -> None:
    rng = random.Random(0)
    texts = []
    for number in range(60):
        words = [rng.choice(WORDS) for _ in range(rng.choice([30, 200, 2000]))]
        texts += [" ".join(words), " ".join(_alike(rng, words, 0.02 * (number % 5)))]
    shingles = shingles_of(pa.array(texts), 3)
    signatures = sketch(shingles, 256)
    sets = shingles.sets()
    exact = np.array(list(similarities(sets[::2], sets[1::2])))
    estimated = (signatures[::2] == signatures[1::2]).mean(axis=1)
    assert signatures.shape == (120, 256)
    assert abs(estimated - exact).max() < 4 * np.sqrt(0.25 / 256)
    assert abs((estimated - exact).mean()) < 0.02


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9])
def test_bands_find_what_is_over_the_threshold(threshold: float) -> None:
    banding = Banding.of(threshold, 128)
    assert banding.num_bands * banding.num_rows <= 128
    assert banding.probability(threshold + 0.05) >= 0.99
    assert Banding(128 // (banding.num_rows + 1), banding.num_rows + 1).probability(threshold + 0.05) < 0.99
    rng, keys = np.random.default_rng(0), []
    for similarity in (threshold + 0.05, threshold / 2):
        first = rng.integers(0, 2**32, (3000, 128), dtype=np.uint32)
        later = np.where(rng.random((3000, 128)) < similarity, first, first + np.uint32(1))
        keys.append((band_keys(first, banding) == band_keys(later, banding)).any(axis=1).mean())
    assert keys[0] >= 0.98 and keys[1] < 0.9


def test_too_few_permutations_are_refused() -> None:
    with pytest.raises(ValueError, match="num_permutations=1 cannot find"):
        Banding.of(0.3, 1)


def test_bands_of_other_numbers_have_other_keys() -> None:
    keys = band_keys(np.ones((1, 64), np.uint32), Banding(16, 4))
    assert len(set(keys[0].tolist())) == 16


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=40))
def test_candidates_share_a_key_and_come_in_order(rows: list[tuple[int, int]]) -> None:
    rows = sorted(set(rows))
    keys = np.array([key for key, _ in rows], np.uint64)
    documents = np.array([document for _, document in rows], np.int64)
    priorities = (documents * 7 % 5).astype(np.uint64)
    first, later = candidate_pairs(keys, priorities, documents)
    rank = {
        int(document): (int(priority), int(document)) for document, priority in zip(documents, priorities, strict=True)
    }
    expected = {(a, b) for key, a in rows for other, b in rows if key == other and rank[a] < rank[b]}
    assert list(zip(first.tolist(), later.tolist(), strict=True)) == sorted(expected)


def test_of_many_that_share_a_band_each_meets_the_first_ones() -> None:
    number = 5000
    first, later = candidate_pairs(
        np.zeros(number, np.uint64), np.zeros(number, np.uint64), np.arange(number, dtype=np.int64)
    )
    assert set(first.tolist()) == set(range(16)) and set(later.tolist()) == set(range(1, number))
    assert len(first) < 16 * number


@given(
    pairs=st.sets(
        st.tuples(st.integers(0, 30), st.integers(0, 30)).filter(lambda pair: pair[0] < pair[1]), max_size=80
    ),
    num_partitions=st.integers(1, 5),
)
@settings(deadline=None)
def test_verdicts_are_those_of_one_pass_in_order(pairs: set[tuple[int, int]], num_partitions: int) -> None:
    """The reference: documents in order; each stays unless an earlier one that stays is like it."""
    dropped: set[int] = set()
    for document in range(31):
        if any(later == document and first not in dropped for first, later in pairs):
            dropped.add(document)

    array = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    first, later = array[:, 0], array[:, 1]
    states, sent = [], []
    for number in range(num_partitions):
        own, out = later % num_partitions == number, first % num_partitions == number
        state, news = Verdicts.begin(later[own], first[out], later[out])
        states.append(state)
        sent.append(news)
    while sum(len(news.later) for news in sent):
        news = News.join(sent)
        heard = [state.hear(news.where(news.later % num_partitions == at)) for at, state in enumerate(states)]
        states, sent = [state for state, _ in heard], [told for _, told in heard]
    found = [state.dropped() for state in states]
    assert {int(document) for documents, _ in found for document in documents} == dropped
    beside = {int(document): int(first) for pair in found for document, first in zip(*pair, strict=True)}
    assert all((first, document) in pairs and first not in dropped for document, first in beside.items())


def test_no_documents_have_no_shingles() -> None:
    nothing = shingles_of(pa.array([], pa.string()), 5)
    assert len(nothing) == 0 and nothing.sets() == [] and sketch(nothing, 16).shape == (0, 16)
    assert isinstance(nothing, Shingles)
