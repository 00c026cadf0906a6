import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from llmcore.config.prepare import PackingSettings
from llmcore.tokens.encode import count_languages, count_rows, encoded_pieces, pack_documents
from llmcore.tokens.encoder import Encoder
from llmcore.tokens.tokenizer import OWN_BEGIN, OWN_IDS, SPECIAL_TOKENS, train_tokenizer

END, PAD = SPECIAL_TOKENS.index("<|endoftext|>"), SPECIAL_TOKENS.index("<|pad|>")
VOCAB_SIZE = 330


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["the quick brown fox jumps over the lazy dog"] * 3, VOCAB_SIZE)


@pytest.fixture(scope="module", params=["tokenizers", "gigatoken"])
def encoder(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> Encoder:
    return Encoder(tokenizer, request.param)


def _documents(texts: list[str]) -> pa.Table:
    return pa.table({"text": texts, "source": pa.array([number % 3 for number in range(len(texts))], pa.int16())})


@given(texts=st.lists(st.text(min_size=1, max_size=60), max_size=20))
@settings(deadline=None, max_examples=50)
def test_documents_come_back_from_the_rows(tokenizer: Tokenizer, encoder: Encoder, texts: list[str]) -> None:
    rows, _ = pack_documents(_documents(texts), encoder, PackingSettings(sequence_length=16, window=4))
    pieces = []
    targets = np.zeros(VOCAB_SIZE, dtype=np.int64)
    num_tokens = 0
    for row in rows.to_pylist():
        start = 0
        for length, source in zip(row["document_lengths"], row["source"], strict=True):
            piece = row["tokens"][start : start + length]
            pieces.append((source, piece))
            np.add.at(targets, piece[1:], 1)
            start += length
        num_tokens += start
        assert row["tokens"][start:] == [PAD] * (16 - start)
        assert row["source_epoch"] == row["sentence_offsets"] == [0] * len(row["source"])
        assert row["next_sentence"] == [-1] * len(row["source"])
    whole = [tokenizer.decode(piece[:-1]) for _, piece in pieces if piece[-1] == END]
    fitting = [text for text in texts if len(text.encode()) < 16]
    assert sorted(set(fitting) - set(whole)) == []
    assert rows["position"].to_pylist() == list(range(rows.num_rows))

    counts = count_rows(rows, VOCAB_SIZE, 3)
    assert (counts.num_tokens, counts.num_documents) == (num_tokens, len(texts))
    assert counts.targets.tolist() == targets.tolist()
    assert counts.targets.sum() == num_tokens - len(pieces)
    assert counts.by_source.tolist() == [sum(len(piece) for of, piece in pieces if of == source) for source in range(3)]


def test_documents_may_begin_with_a_token_of_their_own(tokenizer: Tokenizer, encoder: Encoder) -> None:
    texts = ["the fox", "", "the lazy dog" * 9]
    framed = Encoder(tokenizer, encoder.name, OWN_IDS._replace(begin=OWN_BEGIN))
    plain = [piece.tokens.tolist() for piece in encoded_pieces(_documents(texts), encoder)]
    found = [piece.tokens.tolist() for piece in encoded_pieces(_documents(texts), framed)]
    assert found == [[OWN_BEGIN, *tokens] for tokens in plain] and found[1] == [OWN_BEGIN, END]
    rows, _ = pack_documents(_documents(texts), framed, PackingSettings(sequence_length=16, window=4))
    counts = count_rows(rows, VOCAB_SIZE, 3)
    assert counts.num_documents == 3 and counts.targets[OWN_BEGIN] == 0, "it is never predicted"


def test_counts_do_not_depend_on_how_rows_are_chunked(encoder: Encoder) -> None:
    packing = PackingSettings(sequence_length=8, window=4)
    rows, _ = pack_documents(_documents(["the lazy dog " * number for number in range(1, 30)]), encoder, packing)
    chunked = pa.concat_tables([rows.slice(start, 7) for start in range(0, rows.num_rows, 7)])
    one, two = count_rows(rows, VOCAB_SIZE, 3), count_rows(chunked, VOCAB_SIZE, 3)
    assert one[:2] == two[:2] and one.targets.tolist() == two.targets.tolist()
    assert one.by_source.tolist() == two.by_source.tolist()
    assert count_rows(rows.slice(0, 0), VOCAB_SIZE, 3).num_tokens == 0


def test_tokens_are_counted_by_source_and_language(encoder: Encoder) -> None:
    texts = ["the lazy dog", "quick", "the fox " * 9, "dog", "over"]
    documents = _documents(texts).append_column("language", pa.array(["en", None, "de", "en", "en"], pa.string()))
    pieces = list(encoded_pieces(documents, encoder))
    lengths = [len(piece.tokens) for piece in pieces]
    assert [piece.tokens[-1] for piece in pieces] == [END] * 5
    assert count_languages(documents, pa.array(lengths)) == {
        0: {"en": lengths[0] + lengths[3]},
        1: {"unknown": lengths[1], "en": lengths[4]},
        2: {"de": lengths[2]},
    }
    rows, _ = pack_documents(documents, encoder, PackingSettings(sequence_length=8, window=4))
    assert count_rows(rows, VOCAB_SIZE, 3).num_tokens == sum(lengths)
