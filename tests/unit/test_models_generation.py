"""Answers do not depend on the batch, and are those of plain transformers."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from llmcore.config.generation import GenerationSettings
from llmcore.errors import ConfigError
from llmcore.models.generation import Generator, choice
from llmcore.models.generation.batches import batches, padded
from tests.writers import FAMILIES, NUM_POSITIONS, VOCAB_SIZE, prompts, write_writer

NEW_TOKENS = 8
METHODS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beam": {"method": "beam", "num_beams": 3, "length_penalty": 0.7},
    "sample": {"method": "sample", "temperature": 0.8, "top_p": 0.9, "top_k": 100, "num_samples": 2, "seed": 5},
    "penalized": {"repetition_penalty": 1.5},
}
IN_ONE = 1 << 20


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def generator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator:
    return Generator.load(write_writer(tmp_path_factory.mktemp(request.param), request.param))


def settings(batch_tokens: int = IN_ONE, **changes: Any) -> GenerationSettings:
    return GenerationSettings(**{"max_new_tokens": NEW_TOKENS, "batch_tokens": batch_tokens} | changes)


def tokens_of(generated: Any) -> list[list[tuple[int, ...]]]:
    return [[answer.tokens for answer in answers] for answers in generated.answers]


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_of_32_answers_as_each_prompt_alone_token_for_token(generator: Generator, method: str) -> None:
    asked = prompts(32)
    together = generator.generate(asked, settings(**METHODS[method]))
    alone = generator.generate(asked, settings(batch_tokens=1, **METHODS[method]))
    assert tokens_of(together) == tokens_of(alone)
    for one, other in zip(together.answers, alone.answers, strict=True):
        assert [answer.log_likelihood for answer in one] == pytest.approx(
            [answer.log_likelihood for answer in other], rel=1e-5, abs=1e-4
        )
    assert len({tokens for answers in tokens_of(alone) for tokens in answers}) > 3, "they tell something"


@pytest.mark.parametrize("method", ["greedy", "beam", "penalized"])
def test_answers_are_those_of_plain_transformers_without_padding(generator: Generator, method: str) -> None:
    asked, model = prompts(6), generator.model
    known: dict[str, Any] = {key: value for key, value in METHODS[method].items() if key != "method"}
    encodes = model.config.is_encoder_decoder
    for prompt, answers in zip(asked, tokens_of(generator.generate(asked, settings(**METHODS[method]))), strict=True):
        ids = torch.tensor([prompt])
        with torch.no_grad():
            plain = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False, **known
            )
        assert answers == [tuple(plain[0, 1 if encodes else len(prompt) :].tolist())]


@pytest.mark.parametrize("method", ["greedy", "beam", "sample"])
def test_near_ties_are_settled_alone(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_writer(tmp_path, "llama", near_ties=True, tie_word_embeddings=False)
    generator, asked = Generator.load(folder), prompts(32)
    alone = tokens_of(generator.generate(asked, settings(batch_tokens=1, **METHODS[method])))
    watched = generator.generate(asked, settings(**METHODS[method]))
    assert tokens_of(watched) == alone
    assert watched.num_again > 0
    if method == "greedy":  # Without that it is another text: what is guarded against does happen.
        monkeypatch.setattr(choice, "_RELATIVE", 0.0)
        assert tokens_of(generator.generate(asked, settings(**METHODS[method]))) != alone


def test_other_models_have_few_near_ties(generator: Generator) -> None:
    generated = generator.generate(prompts(32), settings(max_new_tokens=20))
    assert generated.num_again <= 2


@pytest.mark.parametrize("method", METHODS)
def test_tokens_that_a_folder_forces_come_and_are_no_near_tie(method: str, tmp_path: Path) -> None:
    said = write_writer(tmp_path, "bart") / "generation_config.json"
    said.write_text(json.dumps(json.loads(said.read_text()) | {"forced_bos_token_id": 5, "forced_eos_token_id": 0}))
    generator = Generator.load(tmp_path)
    together = generator.generate(prompts(12), settings(**METHODS[method]))
    assert tokens_of(together) == tokens_of(generator.generate(prompts(12), settings(1, **METHODS[method])))
    assert all(tokens[0] == 5 and tokens[-1] == 0 for answers in tokens_of(together) for tokens in answers)
    assert together.num_again <= 2


def test_a_draw_depends_on_seed_and_row_alone(generator: Generator) -> None:
    asked, how = prompts(8), METHODS["sample"]
    forward = tokens_of(generator.generate(asked, settings(**how), rows=range(8)))
    backward = tokens_of(generator.generate(asked[::-1], settings(**how), rows=range(7, -1, -1)))
    part = tokens_of(generator.generate(asked[3:5], settings(**how), rows=[3, 4]))
    assert backward[::-1] == forward
    assert part == forward[3:5]
    assert tokens_of(generator.generate(asked, settings(**how | {"seed": 6}))) != forward
    first, second = map(list, zip(*forward, strict=True))
    assert first != second


def test_what_is_drawn_follows_the_probabilities(tmp_path: Path) -> None:
    generator = Generator.load(write_writer(tmp_path, "gpt2"))
    [prompt], num = prompts(1), 3000
    how = {"method": "sample", "temperature": 2.0, "top_k": 8, "num_samples": num, "max_new_tokens": 1}
    [answers] = tokens_of(generator.generate([prompt], settings(**how)))
    with torch.no_grad():
        logits = generator.model(input_ids=torch.tensor([prompt])).logits[0, -1] / 2.0
    values, ids = logits.topk(8)
    drawn = Counter(token for (token,) in answers)
    assert set(drawn) <= set(ids.tolist())
    for token, probability in zip(ids.tolist(), values.softmax(-1).tolist(), strict=True):
        assert drawn[token] / num == pytest.approx(probability, abs=4 * (probability / num) ** 0.5 + 1e-3)


@pytest.mark.parametrize(("top_p", "top_k"), [(0.3, None), (0.9, None), (None, 5), (0.6, 20), (1.0, None), (1.0, 400)])
def test_the_tokens_to_draw_from_are_those_of_transformers(top_p: float | None, top_k: int | None) -> None:
    from transformers import TopKLogitsWarper, TopPLogitsWarper

    logits = 3 * torch.randn(40, VOCAB_SIZE, generator=torch.Generator().manual_seed(2))
    plain = logits
    if top_k:
        plain = TopKLogitsWarper(top_k)(None, plain)
    if top_p and top_p < 1:
        plain = TopPLogitsWarper(top_p)(None, plain)
    chosen = choice.TokenChoice(
        settings(method="sample", top_p=top_p, top_k=top_k), [(row, 0) for row in range(40)], watch=True
    )
    scores = chosen(torch.empty(40, 0), logits)
    assert torch.equal(scores.isfinite(), plain.isfinite())
    assert not chosen.uncertain.all()


def test_a_prompt_without_room_loses_its_beginning_or_is_refused(tmp_path: Path) -> None:
    generator = Generator.load(write_writer(tmp_path, "gpt2", eos_token_id=None))
    room = NUM_POSITIONS - NEW_TOKENS
    longest, fits = prompts(1, 1)[0] * (room + 30), [7] * room
    cut = generator.generate([longest, fits, [5, 6]], settings())
    assert cut.num_cut == 1
    assert tokens_of(cut)[0] == tokens_of(generator.generate([longest[-room:]], settings()))[0]
    assert [len(answers[0]) for answers in tokens_of(cut)] == [NEW_TOKENS] * 3
    with pytest.raises(ConfigError, match=rf"prompt 1 has {room + 30} tokens, and the model room for {room} beside"):
        generator.generate([fits, longest], settings(overflow="refuse"))
    with pytest.raises(ConfigError, match=r"max_new_tokens=64 leaves no room .* set it to 63 or less"):
        generator.generate([[5]], settings(max_new_tokens=NUM_POSITIONS))
    with pytest.raises(ConfigError, match="prompt 1 is empty"):
        generator.generate([[5], []], settings())


def test_an_encoder_loses_the_end_of_what_it_reads_but_not_its_end_token(tmp_path: Path) -> None:
    generator = Generator.load(write_writer(tmp_path, "bart"))
    source = [*range(2, 90), 0]
    cut = generator.generate([source, [5, 6, 0]], settings())
    assert cut.num_cut == 1
    assert tokens_of(cut)[0] == tokens_of(generator.generate([[*source[: NUM_POSITIONS - 1], 0]], settings()))[0]


def test_scores_are_those_of_a_plain_loop(generator: Generator) -> None:
    asked, said = prompts(9), [*prompts(8, 20)[::-1], []]
    model, encodes = generator.model, generator.model.config.is_encoder_decoder
    for budget in (1, 100, IN_ONE):
        scored = generator.score(asked, said, batch_tokens=budget)
        for (loss, num_tokens), prompt, continuation in zip(scored, asked, said, strict=True):
            with torch.no_grad():
                if not continuation:
                    plain = 0.0
                elif encodes:
                    labels = torch.tensor([continuation])
                    plain = float(model(input_ids=torch.tensor([prompt]), labels=labels).loss) * len(continuation)
                else:
                    logits = model(input_ids=torch.tensor([prompt + continuation])).logits[0, len(prompt) - 1 : -1]
                    target = torch.tensor(continuation)
                    plain = float(torch.nn.functional.cross_entropy(logits, target, reduction="sum"))
            assert num_tokens == len(continuation)
            assert loss == pytest.approx(plain, rel=1e-5, abs=1e-5)


def test_what_is_too_long_to_score_is_refused(tmp_path: Path) -> None:
    generator = Generator.load(write_writer(tmp_path, "gpt2"))
    with pytest.raises(ConfigError, match=r"row 1 has 65 tokens, more than the model's 64: score parts of it"):
        generator.score([[1], [1] * 40], [[2], [2] * 25])


def test_the_likelihood_of_an_answer_is_its_score(generator: Generator) -> None:
    asked = prompts(5)
    answers = [answers[0] for answers in generator.generate(asked, settings(**METHODS["beam"])).answers]
    scored = generator.score(asked, [answer.tokens for answer in answers])
    assert [answer.log_likelihood for answer in answers] == pytest.approx([-loss for loss, _ in scored], abs=1e-4)


def test_what_a_folder_says_of_sampling_does_not_count(tmp_path: Path) -> None:
    folder = write_writer(tmp_path, "llama")
    before = tokens_of(Generator.load(folder).generate(prompts(4), settings()))
    (folder / "generation_config.json").write_text(
        '{"eos_token_id": [0, 7], "pad_token_id": 1, "do_sample": true, "temperature": 5.0, "num_beams": 4,'
        ' "no_repeat_ngram_size": 1, "max_length": 3}'
    )
    after = tokens_of(Generator.load(folder).generate(prompts(4), settings()))
    for (old,), (new,) in zip(before, after, strict=True):
        cut = old.index(7) + 1 if 7 in old else len(old)
        assert new == old[:cut], "its ends of text count"


def test_a_folder_that_writes_no_text_is_refused(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    BertForMaskedLM(
        BertConfig(vocab_size=330, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    ).save_pretrained(tmp_path / "bert")
    with pytest.raises(ConfigError, match="is a BertForMaskedLM, which writes no text: give a causal model"):
        Generator.load(tmp_path / "bert")
    with pytest.raises(ConfigError, match="is no model folder"):
        Generator.load(tmp_path / "nothing")
    small = write_writer(tmp_path / "small", "gpt2", vocab_size=300)
    with pytest.raises(ConfigError, match="330 entries and its model 300: they do not belong together"):
        Generator.load(small)


def test_batches_hold_all_rows_once_and_keep_the_budget() -> None:
    lengths = [5, 1, 9, 9, 2, 30, 4]
    found = list(batches(lengths, 40, extra=3, width=2))
    assert sorted(index for batch in found for index in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) == 1 or len(batch) * (max(lengths[index] for index in batch) + 3) * 2 <= 40


def test_padding_stands_left_of_what_is_gone_on_from() -> None:
    tokens, mask = padded([[5, 6], [7, 8, 9]], 1, left=True)
    assert (tokens.tolist(), mask.tolist()) == ([[1, 5, 6], [7, 8, 9]], [[0, 1, 1], [1, 1, 1]])
    tokens, mask = padded([[5, 6], [7, 8, 9]], 1, left=False)
    assert (tokens.tolist(), mask.tolist()) == ([[5, 6, 1], [7, 8, 9]], [[1, 1, 0], [1, 1, 1]])
