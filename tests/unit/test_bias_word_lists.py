"""Word lists as May et al. distribute them, and the vectors of words and sentences that a model gives."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from llmcore.bias.figures import Figure
from llmcore.bias.intervals import Resampling
from llmcore.bias.measures import MEASURES
from llmcore.bias.scoring import Scorer
from llmcore.bias.word_lists import read_word_lists
from llmcore.errors import CorpusError
from llmcore.storage import Folder
from tests.bases import write_base
from tests.shared_data import DATA, needs_data
from tests.unit.test_bias_sets import bigram_model


def _write(folder: Path, name: str, **changed: Any) -> Folder:
    lists = {"targ1": ["red", "blue"], "targ2": ["cat", "dog"], "attr1": ["house"], "attr2": ["tree", "red tree"]}
    content = {part: {"category": part, "examples": examples} for part, examples in (lists | changed).items()}
    (folder / name).write_text(json.dumps(content))
    return Folder(str(folder))


def test_words_and_sentences_are_told_apart_by_their_names(tmp_path: Path) -> None:
    folder = _write(tmp_path, "weat1.jsonl")
    _write(tmp_path, "sent-weat1.jsonl", targ1=["This is red.", "A blue."])
    _write(tmp_path, "mine.json")
    [words] = read_word_lists(folder, None, sentences=False)
    assert words == ("weat1", ("red", "blue"), ("cat", "dog"), ("house",), ("tree", "red tree"))
    [sentences] = read_word_lists(folder, None, sentences=True)
    assert sentences.name == "sent-weat1" and sentences.first == ("This is red.", "A blue.")
    assert [one.name for one in read_word_lists(folder, ["mine", "weat1"], sentences=False)] == ["mine", "weat1"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"targ1": ["red"]}, r"weat1.jsonl: targ1 has 1 examples and targ2 2: a test compares as many, 2 or more"),
        ({"attr2": []}, r"weat1.jsonl: an attribute, or one of the examples, is empty"),
        ({"targ1": ["red", " "]}, r"weat1.jsonl: an attribute, or one of the examples, is empty"),
        ({"attr1": None}, r"weat1.jsonl: a test is an object of targ1, targ2, attr1, attr2, each with \"examples\""),
    ],
)
def test_a_file_that_is_no_test_is_told(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=said):
        read_word_lists(_write(tmp_path, "weat1.jsonl", **changed), None, sentences=False)


def test_a_test_that_there_is_not_is_told(tmp_path: Path) -> None:
    folder = _write(tmp_path, "weat1.jsonl")
    with pytest.raises(CorpusError, match=r"has no weat2.jsonl and no weat2.json; there are weat1.jsonl"):
        read_word_lists(folder, ["weat2"], sentences=False)
    with pytest.raises(CorpusError, match=r"has no sent-\*.jsonl; there are weat1.jsonl: give `tests`"):
        read_word_lists(folder, None, sentences=True)
    (tmp_path / "weat1.jsonl").write_text("[")
    with pytest.raises(CorpusError, match=r"weat1.jsonl: a test is an object of .*JSONDecodeError"):
        read_word_lists(folder, None, sentences=False)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_vector_is_the_last_state_or_the_mean_of_them(family: str, tmp_path: Path) -> None:
    """Held against plain transformers, one text at a time."""
    write_base(tmp_path, family)
    scorer = Scorer.of(tmp_path)
    texts = ["red cat", "a blue dog house", "tree"]
    found = scorer.vectors(texts)
    auto: Any = AutoModelForMaskedLM if family == "bert" else AutoModelForCausalLM
    model, named = auto.from_pretrained(tmp_path).eval(), scorer.tokenizer
    for text, vector in zip(texts, found, strict=True):
        own = named(text, add_special_tokens=False)["input_ids"]
        if family == "bert":
            framed = torch.tensor([[named.cls_token_id, *own, named.sep_token_id]])
            expected = model.base_model(framed).last_hidden_state[0, 1:-1].mean(dim=0)
        else:
            expected = model.base_model(torch.tensor([[named.bos_token_id, *own]])).last_hidden_state[0, -1]
        assert vector == pytest.approx(expected.tolist(), abs=1e-4)


def test_an_association_that_was_planted_into_a_decoder_is_found(tmp_path: Path) -> None:
    """Its vectors of X are those of A and of Y those of B: s is 1, 1, -1, -1, whose deviation is 2/sqrt(3)."""
    words = ["<s>", "red", "blue", "cat", "dog", "house", "tree", "a"]
    scorer = bigram_model(np.full((8, 8), 1 / 8), words)
    [lists] = read_word_lists(_write(tmp_path, "mine.json", attr2=["tree"]), ["mine"], sentences=False)
    place = {word: number for number, word in enumerate(words)}
    table = scorer.model.get_input_embeddings().weight

    def measured(first: dict[str, float], second: dict[str, float]) -> Figure:
        with torch.no_grad():
            for group, parts in ((lists.first, first), (lists.second, second)):
                for word in group:
                    table[place[word]] = sum(share * torch.eye(8)[place[near]] for near, share in parts.items())
        measure = MEASURES["weat"]
        return measure.figures([lists], measure.score(scorer, [lists]), Resampling(100, 0))["mine"]

    planted = measured({"house": 1.0}, {"tree": 1.0})
    assert planted.value == pytest.approx(np.sqrt(3), abs=1e-4) and planted.p_value == 0.0
    assert measured({"tree": 1.0}, {"house": 1.0}).value == pytest.approx(-np.sqrt(3), abs=1e-4)
    fair = measured({"house": 1.0, "tree": 1.0}, {"house": 1.0, "tree": 1.0})
    assert (fair.value, fair.low, fair.high, fair.p_value) == (0.0, 0.0, 0.0, 0.0)


@needs_data
def test_all_published_lists_are_read() -> None:
    folder = Folder(str(DATA / "seat_cda"))
    words, sentences = (read_word_lists(folder, None, sentences=kind) for kind in (False, True))
    assert (len(words), len(sentences)) == (27, 23)
    assert {one.name for one in sentences} >= {"sent-weat6", "sent-religion1"} and len(words[0].first) > 0
