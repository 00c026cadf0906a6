"""Where answers end: stop texts at any place in tokens, ends of text, and why."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from llmcore.config.generation import GenerationSettings
from llmcore.models.generation import Generator
from llmcore.models.generation.endings import Endings
from llmcore.tokens.tokenizer import hugging_face_files, train_tokenizer
from tests.pieces import Pieces, endings
from tests.writers import prompts, write_writer


@given(st.lists(st.integers(0, 9), max_size=12), st.lists(st.text("ab ", min_size=1, max_size=4), max_size=3))
def test_the_text_is_what_stands_before_the_first_stop_or_end(tokens: list[int], stops: list[str]) -> None:
    told = endings(*stops).cut(tokens)
    body = tokens[: tokens.index(0)] if 0 in tokens else tokens
    # Token by token, as slowly as possible.
    for size in range(1, len(body) + 1):
        raw = Pieces().decode(body[:size], skip_special_tokens=False)
        shown = Pieces().decode(body[:size], skip_special_tokens=True)
        if any(stop in text for stop in stops for text in (raw, shown)):
            assert (told.reason, told.tokens) == ("stop", body[:size])
            break
    else:
        assert told.reason == ("end" if 0 in tokens else "length")
        assert told.tokens == tokens[: len(body) + 1]
        assert told.text == Pieces().decode(body, skip_special_tokens=True)
    if told.reason == "stop" and 9 not in told.tokens:
        assert told.text == raw[: min(raw.index(stop) for stop in stops if stop in raw)]
    assert not any(stop in told.text for stop in stops)


@pytest.mark.parametrize(
    ("tokens", "stops", "told"),
    [
        ([1, 2, 3, 0, 5], ["<turn>"], ([1, 2, 3, 0], "abab", "end")),
        ([1, 9, 3, 0], ["<turn>"], ([1, 9], "a", "stop")),  # a special token is a stop, too
        ([1, 5, 2], ["aba"], ([1, 5], "a", "stop")),  # inside a token, and the rest of it goes
        ([1, 2, 1, 2], ["ba"], ([1, 2, 1], "a", "stop")),  # across two tokens
        ([1, 7], ["b a", "b"], ([1, 7], "a", "stop")),
        ([2, 2], ["ab"], ([2, 2], "bb", "length")),
    ],
)
def test_an_answer_ends_where_it_should(tokens: list[int], stops: list[str], told: tuple[Any, ...]) -> None:
    assert endings(*stops).cut(tokens) == told


def test_a_stop_text_is_found_at_the_end_of_a_long_answer_and_not_in_the_prompt() -> None:
    tokens = torch.tensor([[1, 2, 1] + [2] * 40 + [1], [1, 2, 1] + [2] * 41])
    assert endings("ba").stopped(3, tokens).tolist() == [True, False]
    assert endings("aba").stopped(3, tokens).tolist() == [False, False]
    assert endings("bbba").ended(3, 99, tokens).tolist() == [True, False]
    assert endings().ended(3, 41, tokens).tolist() == [True, True]


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    return Generator.load(write_writer(tmp_path_factory.mktemp("gpt2"), "gpt2", eos_token_id=None))


@pytest.mark.parametrize(
    "how", [{}, {"method": "beam", "num_beams": 2}, {"method": "sample", "temperature": 3.0}], ids=str
)
def test_a_model_stops_at_the_text_and_the_same_alone_as_in_a_batch(generator: Generator, how: dict[str, Any]) -> None:
    whole = generator.generate(prompts(16), GenerationSettings(max_new_tokens=12, **how))
    [text, *_] = [answer.text for [answer] in whole.answers if len(answer.text) > 9]
    stops = [text[4:7], "\n"]  # three characters, wherever tokens begin
    asked = GenerationSettings(max_new_tokens=12, stop=stops, **how)
    together = generator.generate(prompts(16), asked)
    alone = generator.generate(prompts(16), asked.model_copy(update={"batch_tokens": 1}))
    for [one], [other], [full] in zip(together.answers, alone.answers, whole.answers, strict=True):
        assert one[:3] == other[:3]
        assert not any(stop in one.text for stop in stops)
        if one.reason == "stop" and how.get("method") != "beam":  # a beam that stops may win by being short
            assert full.text.startswith(one.text)
    assert "stop" in [answer.reason for [answer] in together.answers]


def test_half_a_character_at_the_end_stops_nothing(tmp_path: Path) -> None:
    tokenizer: Tokenizer = train_tokenizer(["häßlich größer schöner"] * 3, 330)
    for name, data in hugging_face_files(tokenizer, 16).items():
        (tmp_path / name).write_bytes(data)
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tmp_path)
    ids = loaded("größte", add_special_tokens=False)["input_ids"]
    told = Endings(loaded, frozenset({0}), ("ßt",)).cut([*ids, 1, 1])
    assert (told.text, told.reason) == ("grö", "stop")
    assert torch.equal(Endings(loaded, frozenset({0}), ("ß",)).stopped(0, torch.tensor([ids])), torch.tensor([True]))
