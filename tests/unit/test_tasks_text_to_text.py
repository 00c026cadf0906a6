"""What is written is learnt alone, fits, and has the loss that plain transformers has."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from llmcore.config.task import TaskSettings
from llmcore.errors import ConfigError, CorpusError
from llmcore.evaluation.kinds import Subject
from llmcore.tasks import build_task
from llmcore.tasks.base import Reader, SetFacts
from llmcore.tasks.chat import Chat
from llmcore.tasks.text_to_text import TextToText
from llmcore.tasks.translation import Translation
from tests.bases import write_model

NUM_POSITIONS = 64
PAIRS = [("a cat sits here", "eine Katze sitzt hier"), ("dogs run", "Hunde rennen"), ("yes", "ja ja ja")]
ROWS = pa.table({"source": [source for source, _ in PAIRS], "target": [target for _, target in PAIRS]})
MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "gpt2": ("causal_lm", {"n_embd": 32, "n_layer": 2, "n_head": 2}),
    "llama": (
        "causal_lm",
        {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
    ),
    "t5": ("span_corruption", {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}),
    "bart": (
        "span_corruption",
        {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
        | {"decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64},
    ),
    "bert": (
        "masked_lm",
        {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64},
    ),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random model of each family, with a tokenizer."""
    texts = [text for pair in PAIRS for text in pair] * 2
    return {
        family: write_model(
            tmp_path_factory.mktemp(family), family, *about, texts=texts, longest=NUM_POSITIONS, begin=family == "bert"
        )
        for family, about in MODELS.items()
    }


def translation(**settings: Any) -> TextToText:
    task = build_task(TaskSettings(kind="translation", **settings), SetFacts())
    assert isinstance(task, Translation)
    return task


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5", "bart"])
def test_the_loss_is_that_of_plain_transformers_on_the_answers_alone(folders: dict[str, Path], family: str) -> None:
    folder, task = folders[family], translation(max_tokens=64)
    reader = Reader.of(folder)
    model = task.build_model(folder, seed=3, random_weights=False).eval()
    examples = task.features(reader, ROWS).examples
    batch = task.collate(examples)
    with torch.no_grad():
        ours = float(task.loss_sums(model, batch))
        theirs, num_targets = 0.0, 0
        for (source, target), example in zip(PAIRS, examples, strict=True):
            prompt, answer = reader.tokens([source + "\n", target])
            answer = [*answer, reader.end]
            num_targets += len(answer)
            if family in ("t5", "bart"):
                plain = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
                read = torch.tensor([[*prompt, reader.end]])
                loss = plain(input_ids=read, labels=torch.tensor([answer])).loss
            else:
                plain = AutoModelForCausalLM.from_pretrained(folder).eval()
                labels = torch.tensor([[-100] * len(prompt) + answer])
                loss = plain(input_ids=torch.tensor([prompt + answer]), labels=labels).loss
            theirs += float(loss) * len(answer)
            assert example.answer == answer
    assert task.num_targets(batch) == (num_targets,)
    assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_what_stands_for_no_rows_teaches_nothing(folders: dict[str, Path], family: str) -> None:
    task = translation(max_tokens=64)
    model = task.build_model(folders[family], seed=3, random_weights=False)
    example = task.features(Reader.of(folders[family]), ROWS).examples[0]
    batch = task.collate([task.without_target(example)])
    loss = task.loss_sums(model, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    assert (float(loss.detach()), task.num_targets(batch)) == (0.0, (0,))
    assert all(float(p.grad.abs().sum()) == 0 for p in model.parameters() if p.grad is not None)


@given(
    source=st.text("ab c", max_size=80),
    target=st.text("ab c", max_size=80),
    max_tokens=st.integers(8, 60),
    family=st.sampled_from(["gpt2", "t5"]),
)
def test_examples_fit_and_what_is_cut_is_counted(
    folders: dict[str, Path], source: str, target: str, max_tokens: int, family: str
) -> None:
    task, reader = translation(max_tokens=max_tokens, prompt="> {source} ="), Reader.of(folders[family])
    features = task.features(reader, pa.table({"source": [source], "target": [target]}))
    (example,) = features.examples
    body, tail, answer = reader.tokens([f"> {source}", " =", target])
    assert example.answer == [*answer[: max_tokens // 2 - 1], reader.end]
    read = example.prompt[:-1] if family == "t5" else example.prompt
    assert read[-len(tail) :] == tail and read[: -len(tail)] == body[: len(read) - len(tail)]
    longest = max(len(example.prompt), len(example.answer)) if family == "t5" else example.num_tokens
    assert longest <= max_tokens
    whole = len(read) == len(body) + len(tail) and len(example.answer) == len(answer) + 1
    assert features.num_truncated == (not whole)


@given(source=st.text("ab c", min_size=1, max_size=90), max_answer_tokens=st.integers(2, 30))
def test_what_is_judged_leaves_room_for_the_longest_answer_and_tells_nothing_of_the_true_one(
    folders: dict[str, Path], source: str, max_answer_tokens: int
) -> None:
    task = translation(max_tokens=56, max_answer_tokens=max_answer_tokens, prompt="> {source} =")
    reader = Reader.of(folders["gpt2"])
    short, long = task.judged(reader, pa.table({"source": [source] * 2, "target": ["a", "b b b b b " * 6]})).examples
    assert short.prompt == long.prompt and short.prompt[-1] == reader.tokens([" ="])[0][-1]
    assert len(long.prompt) + max_answer_tokens <= NUM_POSITIONS
    whole = len(reader.tokens([f"> {source}"])[0]) + len(reader.tokens([" ="])[0])
    assert len(long.prompt) == min(whole, 55, NUM_POSITIONS - max_answer_tokens)


def test_a_text_without_a_prompt_begins_behind_the_end_of_another(folders: dict[str, Path]) -> None:
    task, reader = build_task(TaskSettings(kind="text_generation"), SetFacts()), Reader.of(folders["gpt2"])
    rows = pa.table({"id": ["a", "b"], "prompt": ["", ""], "completion": ["dogs run", "a cat"]})
    examples = task.judged(reader, rows).examples
    assert [example.prompt for example in examples] == [[reader.end]] * 2
    model = task.build_model(folders["gpt2"], seed=3, random_weights=False).eval()
    plain = AutoModelForCausalLM.from_pretrained(folders["gpt2"]).eval()
    told = task.judge(model, examples, torch.device("cpu")).rows["loss_sum"].to_pylist()
    written, _ = task.predictor(folders["gpt2"]).predict(rows, batch_tokens=64)
    for example, ours, by_predictor in zip(examples, told, written["loss_sum"], strict=True):
        ids = torch.tensor([[reader.end, *example.answer]])
        with torch.no_grad():
            theirs = float(plain(input_ids=ids, labels=ids).loss) * len(example.answer)
        assert ours == pytest.approx(theirs, rel=1e-5) and by_predictor == pytest.approx(theirs, rel=1e-5)


def test_a_model_that_cannot_write_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="is a bert, an encoder, which cannot write"):
        translation().build_model(folders["bert"], seed=0, random_weights=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": "{target}"}, r"names \['target'\]: a translation prompt is made of \['source'\]"),
        ({"prompt": "no column"}, "names"),
        ({"prompt": "{source"}, "task.prompt"),
        ({"stride": 3}, "task.stride=3 is not read by translation"),
        ({"validation_metric": "bleu"}, "give one of"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        translation(**settings)


def chat(**settings: Any) -> Chat:
    task = build_task(TaskSettings(kind="chat", **settings), SetFacts())
    assert isinstance(task, Chat)
    return task


TALK = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "cat?"},
    {"role": "assistant", "content": "yes"},
    {"role": "user", "content": "dog?"},
    {"role": "assistant", "content": "no no"},
]


def talks(*messages: list[dict[str, str]]) -> pa.Table:
    return pa.table({"id": [f"t{number}" for number in range(len(messages))], "messages": list(messages)})


def learnt(reader: Reader, example: Any) -> list[str]:
    """The runs of learnt tokens, as text."""
    runs: list[list[int]] = []
    before = False
    for token, learns in zip(example.answer, example.is_learnt, strict=True):
        if learns:
            runs = [*runs[:-1], [*runs[-1], token]] if before else [*runs, [token]]
        before = learns
    return [reader.tokenizer.decode(run) for run in runs]


def test_of_a_conversation_the_answers_alone_are_learnt(folders: dict[str, Path]) -> None:
    reader = Reader.of(folders["gpt2"])
    (example,) = chat(max_tokens=200).features(reader, talks(TALK)).examples
    end = reader.tokenizer.eos_token
    assert learnt(reader, example) == [f"yes{end}\n", f"no no{end}\n"]
    whole = reader.tokenizer.decode([*example.prompt, *example.answer])
    assert whole.startswith("### system\nbe brief\n### user\ncat?\n### assistant\nyes") and "dog?" in whole


def test_a_conversation_too_long_loses_its_last_turns_and_a_turn_its_beginning(folders: dict[str, Path]) -> None:
    reader = Reader.of(folders["gpt2"])
    whole = chat(max_tokens=200).features(reader, talks(TALK)).examples[0].num_tokens
    features = chat(max_tokens=whole - 1).features(reader, talks(TALK, TALK[:3]))
    assert features.num_truncated == 1
    assert [len(learnt(reader, example)) for example in features.examples] == [1, 1]
    (short,) = chat(max_tokens=16, max_answer_tokens=4).features(reader, talks(TALK)).examples
    assert short.num_tokens == 16 and sum(short.is_learnt) == 4


def test_a_conversation_is_judged_by_all_its_answers_and_writes_the_last(folders: dict[str, Path]) -> None:
    """Each answer is as likely as plain transformers finds it behind all that was truly said before it."""
    folder, reader, ends = folders["gpt2"], Reader.of(folders["gpt2"]), "<|endoftext|>"
    talk = [*TALK[1:4], {"role": "assistant", "content": "no"}]
    rows = talks(talk, [*talk, {"role": "user", "content": "bye"}], talk[:2])
    task = chat(max_tokens=NUM_POSITIONS, max_answer_tokens=6)
    features = task.judged(reader, rows)
    before = "### user\ncat?\n### assistant\n"
    history = f"{before}yes{ends}\n### user\ndog?\n### assistant\n"
    asked = [reader.tokenizer.decode(example.asked) for example in features.examples]
    assert asked == [history, history, before] and features.num_truncated == 0

    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    columns, _ = task.predictor(folder).predict(rows, batch_tokens=128)
    model = task.build_model(folder, seed=3, random_weights=False).eval()
    judged = task.judge(model, features.examples, torch.device("cpu")).rows
    for row, answers in enumerate([{before: "yes", history: "no"}] * 2 + [{before: "yes"}]):
        theirs, num_tokens = 0.0, 0
        for said, answer in answers.items():
            read, told = (reader.tokenizer(text)["input_ids"] for text in (said, f"{answer}{ends}\n"))
            labels = torch.tensor([[-100] * len(read) + told])
            with torch.no_grad():
                theirs += float(plain(input_ids=torch.tensor([read + told]), labels=labels).loss) * len(told)
            num_tokens += len(told)
        assert columns["loss_sum"][row] == pytest.approx(theirs, rel=1e-5)
        assert judged["loss_sum"][row].as_py() == pytest.approx(theirs, rel=1e-5)
        assert columns["num_tokens"][row] == judged["num_tokens"][row].as_py() == num_tokens
        assert columns["num_bytes"][row] == sum(map(len, answers.values()))
    assert Subject("chat").reference_texts(rows) == ["no", "no", "yes"]
    assert Subject("chat").input_words(rows) == [3, 3, 1]


def test_of_a_conversation_too_long_to_be_judged_the_end_is_what_is_gone_on_from(folders: dict[str, Path]) -> None:
    reader = Reader.of(folders["gpt2"])
    task = chat(max_tokens=40, max_answer_tokens=8)
    features = task.judged(reader, talks(TALK))
    (example,) = features.examples
    whole = chat(max_tokens=200).features(reader, talks(TALK)).examples[0]
    history = [*whole.prompt, *whole.answer]
    last = len(history) - len(list(whole.learnt_parts)[-1][1])
    assert example.asked == history[last - 39 : last] and features.num_truncated == 1
    assert example.num_bytes == len("yes"), "an answer that is left out is judged by nothing"


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (TALK[:2], "chat row 't0': there must be an answer"),
        (TALK[2:3], "and a message before it"),
        ([{"role": "user", "content": "a<|endoftext|>b"}, TALK[2]], "has '<|endoftext|>' in it"),
    ],
)
def test_conversations_that_teach_nothing_are_refused(
    folders: dict[str, Path], messages: list[dict[str, str]], message: str
) -> None:
    with pytest.raises(CorpusError, match=message.replace("|", r"\|")):
        chat().features(Reader.of(folders["gpt2"]), talks(messages))
