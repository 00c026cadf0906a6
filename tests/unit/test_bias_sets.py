"""Published sets, as they are distributed, and what models make of them."""

import gzip
import json
from collections import Counter
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from llmcore.bias.figures import Figures
from llmcore.bias.intervals import Resampling
from llmcore.bias.measures import MEASURES
from llmcore.bias.scoring import Scorer, shared_places
from llmcore.bias.sets import (
    SentencePair,
    bbq_categories,
    read_bbq,
    read_crows_pairs,
    read_stereoset,
    read_winobias,
    read_winogender,
)
from llmcore.errors import ConfigError, CorpusError
from llmcore.storage import Folder
from tests.bases import write_base, write_model
from tests.shared_data import DATA, needs_data

NUM_GROUPS = 61
"""An odd number, with three other words: a head of the model needs an even one."""


def bigram_model(table: np.ndarray, words: list[str]) -> Scorer:
    """A real decoder whose next word hangs on the one before alone, by a table of probabilities [before, next].

    Its embeddings are unit vectors, its layer adds nothing, and its norm multiplies by the root of the width: so its
    logits are the logarithms that its head has.
    """
    size = len(words)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=size,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
        rms_norm_eps=0.0,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            parameter.zero_()
        model.model.norm.weight.fill_(1.0)
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        model.lm_head.weight.copy_(torch.from_numpy(np.log(table).T / np.sqrt(size)))
    named = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token=words[0]))
    named.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=named, bos_token=words[0], eos_token=words[0])
    return Scorer(model, tokenizer)


def measured(kind: Any, scorer: Scorer, examples: list[Any]) -> Figures:
    """What a measure says of a model by examples."""
    measure = MEASURES[kind]
    return measure.figures(examples, measure.score(scorer, examples), Resampling(200, seed=0))


def _planted(seed: int, share: float) -> tuple[Scorer, list[SentencePair], list[bool]]:
    """A model of which so large a share of the groups has its stereotype likelier, the pairs, and which these are."""
    generator = np.random.default_rng(seed)
    words = ["<s>", "lazy", "kind", *(f"g{number}" for number in range(NUM_GROUPS))]
    table = generator.uniform(0.5, 1.0, (len(words), len(words)))
    table /= table.sum(1, keepdims=True)
    held = [bool(one) for one in generator.random(NUM_GROUPS) < share]
    for number, is_held in enumerate(held, start=3):
        both = table[number, 1] + table[number, 2]
        table[number, 1], table[number, 2] = (0.7 * both, 0.3 * both) if is_held else (0.3 * both, 0.7 * both)
    pairs = [SentencePair(f"g{number} lazy", f"g{number} kind", "group") for number in range(NUM_GROUPS)]
    return bigram_model(table, words), pairs, held


def test_a_decoder_scores_a_sentence_as_its_table_says() -> None:
    words = ["<s>", "lazy", "kind", "they"]
    table = np.array([[0.1, 0.2, 0.3, 0.4], [0.25] * 4, [0.25] * 4, [0.05, 0.6, 0.3, 0.05]])
    scorer = bigram_model(table, words)
    first, second = scorer.pairs(["they lazy", "lazy"], ["they kind", "kind"])
    assert first == pytest.approx([log(0.4) + log(0.6), log(0.2)], abs=1e-5)
    assert second == pytest.approx([log(0.4) + log(0.3), log(0.3)], abs=1e-5)
    [scores] = scorer.options(["they"], [["lazy", "kind they"]])
    assert scores == pytest.approx([log(0.6), (log(0.3) + log(0.25)) / 2], abs=1e-5)


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_preference_that_was_planted_into_a_model_is_found(share: float) -> None:
    within = 0
    for seed in range(20):
        scorer, pairs, held = _planted(seed, share)
        found = measured("crows_pairs", scorer, pairs)["preference"]
        assert found.value == pytest.approx(sum(held) / NUM_GROUPS), "exactly what was planted"
        within += found.low <= share <= found.high
    assert within >= 18, "and its interval has the probability with which it was"


def test_places_that_two_sentences_share() -> None:
    assert shared_places([1, 2, 3, 4], [1, 9, 9, 3, 4]) == ([0, 2, 3], [0, 3, 4])
    assert shared_places([1], [2]) == ([], [])


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_models_of_both_kinds_are_measured(family: str, tmp_path: Path) -> None:
    write_base(tmp_path, family)
    scorer = Scorer.of(tmp_path)
    assert scorer.is_masked == (family == "bert")
    pairs = [SentencePair("the red cat", "the blue cat", "colour"), SentencePair("a dog", "a dog", "same")]
    scores = MEASURES["crows_pairs"].score(scorer, pairs)
    assert scores[1][0] == scores[1][1] and scores[0][0] != scores[0][1]
    assert set(MEASURES["crows_pairs"].groups(pairs, scores, Resampling(100, 0))) == {"colour", "same"}
    [[one, two]] = scorer.options(["red cat"], [["dog", "dog"]])
    assert one == pytest.approx(two, abs=1e-5) and one < 0
    together = scorer.options(["red cat", "blue"], [["dog house", "tree", "a red dog"], ["tree", "cat"]])
    alone = [
        [scorer.options([prefix], [[option]])[0][0] for option in options]
        for prefix, options in (("red cat", ["dog house", "tree", "a red dog"]), ("blue", ["tree", "cat"]))
    ]
    for row, of_row in zip(together, alone, strict=True):
        assert row == pytest.approx(of_row, abs=1e-4), "others beside it change nothing"


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_what_is_longer_than_the_model_is_refused(family: str, tmp_path: Path) -> None:
    write_base(tmp_path, family)
    with pytest.raises(ConfigError, match=r"a text of \d+ tokens, and the model has 96 positions: 'cat cat"):
        Scorer.of(tmp_path).options(["cat " * 120], [["dog"]])


def test_an_encoder_decoder_scores_no_sentences(tmp_path: Path) -> None:
    write_base(tmp_path, "t5")
    with pytest.raises(ConfigError, match="is a t5: sentences are scored by a decoder or a masked"):
        Scorer.of(tmp_path)


WINOBIAS = {
    "pro_stereotyped_type1.txt.dev": "1 [The boss] saw the maid because [he] was [his] own man.\n"
    "2 The boss saw [the maid] because [she] ran.\n",
    "anti_stereotyped_type1.txt.dev": "1 [The boss] saw the maid because [she] was [her] own man.\n"
    "2 The boss saw [the maid] because [he] ran.\n",
}


def _write(folder: Path, files: dict[str, str]) -> Folder:
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return Folder(str(folder))


def test_winobias_tells_whom_a_pronoun_means(tmp_path: Path) -> None:
    found = read_winobias(_write(tmp_path, WINOBIAS), 1)
    assert [(one.pronoun, one.candidates[one.meant], one.gender, one.is_pro) for one in found] == [
        ("he", "the boss", "male", True),
        ("she", "the maid", "female", True),
        ("she", "the boss", "female", False),
        ("he", "the maid", "male", False),
    ]
    assert found[0].sentence == "The boss saw the maid because he was his own man."
    broken = WINOBIAS | {"pro_stereotyped_type1.txt.dev": "1 The boss saw the maid.\n2 [The boss] saw [her].\n"}
    with pytest.raises(CorpusError, match=r"pro_stereotyped_type1.txt.dev:1: .* marks \[\], and not a person"):
        read_winobias(_write(tmp_path, broken), 1)


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"has no crows_pairs_anonymized.csv; there are"):
        read_crows_pairs(Folder(str(tmp_path)))
    _write(tmp_path, {"crows_pairs_anonymized.csv": "sent_more,sent_less,bias_type\na,,age\n"})
    with pytest.raises(CorpusError, match=r"anonymized.csv:2: a pair has sent_more, sent_less"):
        read_crows_pairs(Folder(str(tmp_path)))


def _stereoset(*labels: str) -> str:
    sentences = [{"sentence": f"they {word}", "gold_label": label} for word, label in zip(_WORDS, labels, strict=True)]
    example = {"target": "they", "bias_type": "race", "context": "kind", "sentences": sentences}
    return json.dumps({"data": {"intrasentence": [example], "intersentence": [example]}})


_WORDS, _IN_TURN = ("lazy", "kind", "cloud"), ("stereotype", "anti-stereotype", "unrelated")


def test_stereoset_is_read_and_scored(tmp_path: Path) -> None:
    folder = _write(tmp_path, {"dev.json": _stereoset(*_IN_TURN)})
    (inside,) = read_stereoset(folder)
    assert inside == ("they lazy", "they kind", "they cloud", "they", "race")
    (behind,) = read_stereoset(folder, part="intersentence")
    assert behind.stereotypical == "kind they lazy"
    table = np.full((6, 6), 1 / 6)
    table[4] = [0.05, 0.5, 0.3, 0.05, 0.05, 0.05]
    scorer = bigram_model(table, ["<s>", "lazy", "kind", "cloud", "they", "and"])
    found = measured("stereoset", scorer, [inside, behind])
    assert {name: one.value for name, one in found.items()} == {"language_model": 100, "stereotype": 100, "icat": 0}


def test_a_stereoset_that_is_none_is_told(tmp_path: Path) -> None:
    folder = _write(tmp_path, {"dev.json": _stereoset("stereotype", "stereotype", "unrelated")})
    with pytest.raises(CorpusError, match=r"dev.json: intrasentence 0: its sentences are \['stereotype', 'stereotype'"):
        read_stereoset(folder)
    with pytest.raises(CorpusError, match="has no part words; there are intrasentence, intersentence"):
        read_stereoset(folder, part="words")


def _bbq_row(**changed: Any) -> dict[str, Any]:
    return {
        "question_index": "1",
        "question_polarity": "neg",
        "context_condition": "ambig",
        "category": "Age",
        "answer_info": {"ans0": ["boy", "nonOld"], "ans1": ["man", "old"], "ans2": ["none", "unknown"]},
        "additional_metadata": {"stereotyped_groups": ["Old"]},
        "context": "A boy and a man.",
        "question": "Who forgot?",
        "ans0": "The boy",
        "ans1": "The man",
        "ans2": "Unknown",
        "label": 2,
    } | changed


def test_bbq_tells_whom_an_answer_names(tmp_path: Path) -> None:
    (tmp_path / "Age.jsonl.gz").write_bytes(gzip.compress(json.dumps(_bbq_row()).encode()))
    (one,) = read_bbq(Folder(str(tmp_path)), "Age")
    assert (one.kinds, one.right, one.is_ambiguous, one.is_negative) == (("other", "target", "unknown"), 2, True, True)
    assert one.template == "Age 1"
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "Age.jsonl").write_text(json.dumps(_bbq_row()))
    plain = Folder(str(tmp_path / "plain"))
    assert bbq_categories(plain) == ["Age"] and read_bbq(plain, "Age") == [one], "in gzip or not"
    lost = _bbq_row(additional_metadata={"stereotyped_groups": ["young"]})
    (tmp_path / "Age.jsonl.gz").write_bytes(gzip.compress(json.dumps(lost).encode()))
    with pytest.raises(CorpusError, match=r"Age.jsonl.gz:1: of its answers"):
        read_bbq(Folder(str(tmp_path)), "Age")
    (tmp_path / "plain" / "Age.jsonl").write_text('{"context": "A boy."}')
    with pytest.raises(CorpusError, match=r"Age.jsonl:1: it is no question of BBQ: KeyError"):
        read_bbq(plain, "Age")
    with pytest.raises(CorpusError, match=r"has no Race.jsonl; there are Age.jsonl"):
        read_bbq(plain, "Race")


@needs_data
def test_the_published_files_are_read_whole() -> None:
    def at(name: str) -> Folder:
        return Folder(str(DATA / name))

    assert len(read_crows_pairs(at("crows_pairs"))) == 1508
    for kind in (1, 2):
        winobias = read_winobias(at("winobias"), kind)  # type: ignore[arg-type]
        assert Counter((one.is_pro, one.meant) for one in winobias) == dict.fromkeys(
            [(True, 0), (True, 1), (False, 0), (False, 1)], 198
        )
    winogender = read_winogender(at("winogender"))
    assert Counter(one.gender for one in winogender) == {"male": 120, "female": 120}
    assert sum(one.is_pro for one in winogender) == 120
    assert bbq_categories(at("bbq")) == ["Age", "Nationality"] and len(read_bbq(at("bbq"), "Nationality")) == 3080
    questions = read_bbq(at("bbq"), "Age")
    assert len(questions) == 3680 and sum(one.is_ambiguous for one in questions) == 1840


@needs_data
def test_models_are_asked_what_the_published_sets_ask(tmp_path: Path) -> None:
    sizes = {"n_embd": 32, "n_layer": 1, "n_head": 2}
    write_model(tmp_path, "gpt2", "causal_lm", sizes, texts=["red cat"] * 3, longest=512, num_entries=325)
    scorer = Scorer.of(tmp_path)
    sentences = read_winogender(Folder(str(DATA / "winogender")))[:24]
    found = measured("winogender", scorer, sentences)
    assert found["pro_accuracy"].num == found["anti_accuracy"].num == 12 and -1 <= found["gap"].value <= 1
    scores = measured("bbq", scorer, read_bbq(Folder(str(DATA / "bbq")), "Age")[:8])
    assert scores["ambiguous_bias"].num == scores["told_bias"].num == 4
