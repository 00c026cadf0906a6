import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from llmcore.tokens.encoder import Encoder, choose_encoder
from llmcore.tokens.tokenizer import SPECIAL_TOKENS, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    rng = random.Random(0)
    words = ["".join(rng.choice("etaoin shrdlu") for _ in range(8)) for _ in range(400)]
    return train_tokenizer([" ".join(rng.choice(words) for _ in range(2000))], 700)


@given(texts=st.lists(st.text(max_size=80) | st.sampled_from(SPECIAL_TOKENS), max_size=8))
@settings(deadline=None)
def test_both_libraries_give_the_same_ids(tokenizer: Tokenizer, texts: list[str]) -> None:
    slow, fast = (Encoder(tokenizer, name).encode(texts) for name in ("tokenizers", "gigatoken"))
    assert fast.equals(slow)
    assert len(slow) == len(texts) and slow.ids.dtype == np.int32
    for text, start, stop in zip(texts, slow.offsets, slow.offsets[1:], strict=False):
        assert tokenizer.decode(slow.ids[start:stop].tolist(), skip_special_tokens=False) == text


def test_the_fast_one_is_chosen_where_it_agrees(tokenizer: Tokenizer) -> None:
    assert choose_encoder(tokenizer, ["the shard", "  le tourne\n"]) == ("gigatoken", None)
    assert Encoder(tokenizer, "gigatoken").library.startswith("gigatoken 0.")


def test_the_reference_is_chosen_where_the_fast_one_cannot_or_does_not_agree() -> None:
    words = Tokenizer(models.WordLevel({"a": 0, "b": 1, "<unk>": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    name, reason = choose_encoder(words, ["a b a"])
    assert name == "tokenizers" and reason is not None and reason.startswith("gigatoken cannot load this tokenizer (")
    assert "WordLevel" in reason and reason.endswith(")"), "the reason is told"
    assert "\n" not in reason and ".rs" not in reason, "and not where it stands in the source of another"
    assert Encoder(words, name).encode(["a b", "c"]).ids.tolist() == [0, 1, 2]
