"""Sentence pairs have each token of their documents once, and half of them are of two places."""

from itertools import pairwise
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcore.config.prepare import PackingSettings, PrepareConfig
from llmcore.tokens.encode import count_rows, encoded_sentences, pack_documents
from llmcore.tokens.encoder import Encoder
from llmcore.tokens.pairs import FRAME, Pair, framed, sentence_pairs
from llmcore.tokens.schema import ALONE, FOLLOWS, RANDOM
from llmcore.tokens.tokenizer import OWN_BEGIN, OWN_IDS, train_tokenizer

SPECIAL = OWN_IDS._replace(begin=OWN_BEGIN)
Documents = list[list[np.ndarray]]


def numbered(lengths: list[list[int]]) -> Documents:
    """Documents of sentences of these lengths, no two tokens of which are equal."""
    ids = iter(range(64, 64 + sum(map(sum, lengths))))
    return [[np.array([next(ids) for _ in range(size)], np.int32) for size in document] for document in lengths]


many = st.lists(st.lists(st.integers(1, 30), max_size=12), max_size=12).map(numbered)


def flat(documents: Documents) -> list[list[int]]:
    return [[int(token) for sentence in document for token in sentence] for document in documents]


def random_documents(number: int, sentences: int, seed: int = 0) -> Documents:
    rng = Random(seed)
    return numbered([[rng.randint(3, 25) for _ in range(rng.randint(2, sentences))] for _ in range(number)])


@given(documents=many, room=st.integers(5, 60), seed=st.integers(0, 2**32))
def test_each_token_stands_in_one_pair_and_labels_are_right(documents: Documents, room: int, seed: int) -> None:
    pairs = sentence_pairs(documents, room, seed)
    assert pairs_as_lists(pairs) == pairs_as_lists(sentence_pairs(documents, room, seed)), "a function of its arguments"
    whole = flat(documents)
    of = {token: (number, place) for number, document in enumerate(whole) for place, token in enumerate(document)}
    told = [token for pair in pairs for token in (*pair.first.tolist(), *pair.second.tolist())]
    assert sorted(told) == sorted(of)
    for pair in pairs:
        assert 1 <= len(pair.first) <= len(pair.first) + len(pair.second) <= room
        for segment in (pair.first.tolist(), pair.second.tolist()):
            places = [of[token] for token in segment]
            assert all(b == (a[0], a[1] + 1) for a, b in pairwise(places)), "a run of one document"
        assert pair.document == of[pair.first[0]][0]
        assert (pair.label == ALONE) == (not len(pair.second))
        if pair.label != ALONE:
            last, first = of[pair.first[-1]], of[pair.second[0]]
            assert (pair.label == FOLLOWS) == (first == (last[0], last[1] + 1))


def pairs_as_lists(pairs: list[Pair]) -> list[object]:
    return [(pair.first.tolist(), pair.second.tolist(), pair.document, pair.label) for pair in pairs]


@given(documents=many, room=st.integers(62, 90))
def test_segments_are_whole_sentences_and_none_stands_alone_but_where_a_document_has_one(
    documents: Documents, room: int
) -> None:
    begins = {int(sentence[0]) for document in documents for sentence in document}
    ends = {int(sentence[-1]) for document in documents for sentence in document}
    pairs = sentence_pairs(documents, room, 0)
    for pair in pairs:
        for segment in (pair.first, pair.second):
            assert not len(segment) or (int(segment[0]) in begins and int(segment[-1]) in ends)
    alone = [pair.document for pair in pairs if pair.label == ALONE]
    assert len(alone) == len(set(alone)), "one at most, at the end of its document"
    assert {number for number, document in enumerate(documents) if len(document) == 1} <= set(alone)


def test_half_of_the_pairs_are_random_and_lengths_do_not_tell_which() -> None:
    documents = random_documents(60, 600)
    document_of = {int(token): number for number, tokens in enumerate(flat(documents)) for token in tokens}
    pairs = [pair for pair in sentence_pairs(documents, 120, 1) if pair.label != ALONE]
    assert len(pairs) > 1500
    for pair in pairs:
        within = document_of[int(pair.first[0])] == document_of[int(pair.second[0])]
        assert within == (pair.label == FOLLOWS), "where there are enough documents, what is random is of two"
    assert np.mean([pair.label == RANDOM for pair in pairs]) == pytest.approx(0.5, abs=0.01)
    lengths = np.array([[len(pair.first), len(pair.second), pair.label] for pair in pairs], float)
    sums = lengths[:, 0] + lengths[:, 1]
    short = (sums < 90).mean()
    assert 0.05 < short < 0.15, "a tenth is made short"
    for of_pair in (lengths[:, 0], lengths[:, 1], sums):
        assert abs(np.corrcoef(of_pair, lengths[:, 2])[0, 1]) < 0.08
    assert (lengths[:, 0] < lengths[:, 1]).mean() == pytest.approx(0.5, abs=0.06), "cut anywhere"


def test_another_seed_gives_other_pairs() -> None:
    documents = random_documents(20, 30)
    assert pairs_as_lists(sentence_pairs(documents, 60, 1)) != pairs_as_lists(sentence_pairs(documents, 60, 2))


@pytest.mark.parametrize("sentences", [[900], [900, 30], [600, 90, 4]])
def test_half_are_random_where_one_document_has_most_of_the_pairs(sentences: list[int]) -> None:
    rng = Random(0)
    documents = numbered([[rng.randint(3, 25) for _ in range(number)] for number in sentences])
    labels = [pair.label for pair in sentence_pairs(documents, 61, 1) if pair.label != ALONE]
    assert len(labels) > 100
    assert np.mean(np.array(labels) == RANDOM) == pytest.approx(0.5, abs=0.03)


def test_a_pair_is_framed_as_its_tokenizer_frames_two_texts() -> None:
    first, second = np.array([70, 71], np.int32), np.array([80], np.int32)
    piece = framed(Pair(first, second, 0, RANDOM), 3, SPECIAL)
    assert piece.tokens.tolist() == [OWN_BEGIN, 70, 71, OWN_IDS.end, 80, OWN_IDS.end]
    assert (piece.source, *piece.second) == (3, 4, RANDOM)
    alone = framed(Pair(first, second[:0], 0, ALONE), 3, SPECIAL)
    assert alone.tokens.tolist() == [OWN_BEGIN, 70, 71, OWN_IDS.end] and alone.second == (0, ALONE)


@pytest.fixture(scope="module", params=["tokenizers", "gigatoken"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    tokenizer = train_tokenizer(["the quick brown fox jumps over the lazy dog"] * 3, 330)
    return Encoder(tokenizer, request.param, SPECIAL)


@given(texts=st.lists(st.lists(st.text("ab. \n", max_size=20), max_size=9).map("A. ".join), max_size=9))
@settings(max_examples=30)
def test_rows_of_pairs_have_every_token_of_the_texts_and_say_what_they_are(encoder: Encoder, texts: list[str]) -> None:
    documents = pa.table({"text": texts, "source": pa.array([0] * len(texts), pa.int16())})
    packing = PackingSettings(sequence_length=16, window=4, sentence_pairs=True)
    rows, num_tokens = pack_documents(documents, encoder, packing, seed=5)
    sentences, _ = encoded_sentences(documents, encoder)
    assert num_tokens.tolist() == [len(document) for document in flat(sentences)]
    expected, found = [token for document in flat(sentences) for token in document], []
    labels = {FOLLOWS: 0, RANDOM: 0, ALONE: 0}
    for row in rows.to_pylist():
        start = 0
        columns = (row[name] for name in ("document_lengths", "sentence_offsets", "next_sentence", "source"))
        for length, second, label, _ in zip(*columns, strict=True):
            piece = row["tokens"][start : start + length]
            start += length
            labels[label] += 1
            assert piece[0] == OWN_BEGIN and piece[-1] == OWN_IDS.end
            assert (second == 0) == (label == ALONE) and (second == 0 or piece[second - 1] == OWN_IDS.end)
            found += [token for token in piece if token not in (OWN_BEGIN, OWN_IDS.end)]
    assert sorted(found) == sorted(expected)
    counts = count_rows(rows, 330, 1)
    assert counts.pieces._asdict() == {"follows": labels[FOLLOWS], "random": labels[RANDOM], "alone": labels[ALONE]}
    assert counts.num_documents == sum(counts.pieces)
    frames = FRAME * (counts.pieces.follows + counts.pieces.random) + (FRAME - 1) * counts.pieces.alone
    assert counts.num_tokens == len(expected) + frames


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"packing": {"sentence_pairs": True}}, "begins pairs with a class token: set tokenizer.begin_documents"),
        ({"packing": {"sentence_pairs": True, "method": "concatenate"}}, "would cut sentence pairs"),
    ],
)
def test_settings_that_make_no_pairs_are_refused(changes: dict[str, object], message: str) -> None:
    given = {"name": "x", "sources": [{"name": "a", "url": "/x"}], **changes}
    with pytest.raises(ValueError, match=message):
        PrepareConfig.model_validate(given)
