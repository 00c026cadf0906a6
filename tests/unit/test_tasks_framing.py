"""A text, and a pair of texts, are framed and cut as the tokenizers of transformers frame and cut them."""

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, BertConfig, BertTokenizer, GPT2Config, GPT2Tokenizer, RobertaConfig
from transformers import RobertaTokenizer as Roberta

from llmcore.tasks.base import Reader
from llmcore.tasks.framing import framed_texts, framing_tokenizer

MERGES = [("Ġ", "a"), ("b", "c")]
TEXT = st.text("abc ", min_size=1, max_size=30)


def vocabulary(*special: str) -> dict[str, int]:
    entries = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in MERGES)]
    return {entry: number for number, entry in enumerate(entries)}


@cache
def reader(family: str) -> Reader:
    """A new one: `framing_tokenizer` changes its tokenizer for good."""
    if family == "bert":
        entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abc", *("##a", "##b", "##c", "ab")]
        tokenizer: Any = BertTokenizer(vocab={entry: number for number, entry in enumerate(entries)})
        return Reader(tokenizer, BertConfig())
    if family == "roberta":
        tokenizer = Roberta(vocab=vocabulary("<s>", "<pad>", "</s>", "<unk>", "<mask>"), merges=MERGES)
        return Reader(tokenizer, RobertaConfig(type_vocab_size=1))
    return Reader(GPT2Tokenizer(vocab=vocabulary("<|endoftext|>"), merges=MERGES), GPT2Config())


@given(text=TEXT, pair=st.none() | TEXT, family=st.sampled_from(["bert", "roberta"]), max_tokens=st.integers(8, 40))
def test_encoders_texts_are_framed_and_cut_as_by_their_tokenizers(
    text: str, pair: str | None, family: str, max_tokens: int
) -> None:
    read = reader(family)
    theirs = read.tokenizer(text, pair, truncation="longest_first", max_length=max_tokens)
    whole = read.tokenizer(text, pair)
    [framed], num_truncated = framed_texts(read, [text], None if pair is None else [pair], max_tokens)
    assert framed.tokens == theirs["input_ids"]
    assert num_truncated == (len(whole["input_ids"]) > max_tokens)
    types = [int(framed.second > 0 and place >= framed.second) for place in range(len(framed.tokens))]
    if family == "bert":
        assert types == theirs["token_type_ids"]
    else:
        assert "token_type_ids" not in theirs


def test_robertas_pair_has_two_ends_between_its_texts() -> None:
    read = reader("roberta")
    [framed], _ = framed_texts(read, ["a"], ["b"], 16)
    assert read.tokenizer.convert_ids_to_tokens(framed.tokens) == ["<s>", "a", "</s>", "</s>", "b", "</s>"]
    assert framed.second == 4


def test_a_decoders_pair_has_an_end_behind_each_text() -> None:
    read = reader("gpt2")
    [framed], _ = framed_texts(read, ["a"], ["b"], 16)
    end = "<|endoftext|>"
    assert read.tokenizer.convert_ids_to_tokens(framed.tokens) == ["a", end, "b", end]
    assert read.tokenizer("a", "b")["input_ids"] == [framed.tokens[0], framed.tokens[2]], "it adds nothing by itself"


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
@pytest.mark.parametrize("pair", [None, "b a"])
def test_what_is_exported_frames_as_what_was_trained(family: str, pair: str | None) -> None:
    reader.cache_clear()
    read = reader(family)
    before = None if family == "gpt2" else dict(read.tokenizer("a cb", pair))
    [framed], _ = framed_texts(read, ["a cb"], None if pair is None else [pair], 32)
    exported = framing_tokenizer(read)
    reader.cache_clear()
    assert exported("a cb", pair)["input_ids"] == framed.tokens
    assert before in (None, dict(exported("a cb", pair))), "token types included"


@pytest.mark.skipif("LLMCORE_DATA" not in os.environ, reason="needs the shared data: set LLMCORE_DATA")
def test_a_published_bert_tokenizer_frames_pairs_as_we_do() -> None:
    tokenizer = AutoTokenizer.from_pretrained(Path(os.environ["LLMCORE_DATA"]) / "bert_tokenizer")
    texts, pairs = ["Open a file, and read.", "no"], ["It is closed later: unbelievably so.", "yes " * 30]
    theirs = tokenizer(texts, pairs, truncation="longest_first", max_length=16)
    framed, num_truncated = framed_texts(Reader(tokenizer, BertConfig()), texts, pairs, 16)
    assert [one.tokens for one in framed] == theirs["input_ids"] and num_truncated == 2
    starts = [types.index(1) for types in theirs["token_type_ids"]]
    assert [one.second for one in framed] == starts
