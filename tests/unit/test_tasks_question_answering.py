"""Answers are found where they stand, in whichever window; heads and spans are those of plain transformers."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForQuestionAnswering

from llmcore.config.task import TaskSettings
from llmcore.errors import CheckpointError, ConfigError, CorpusError
from llmcore.tasks import build_task, question_answering, task_from_about
from llmcore.tasks.base import Reader, SetFacts
from llmcore.tasks.question_answering import QuestionAnswering
from llmcore.tasks.spans import NO_ANSWER, QuestionExample, best_span
from tests.bases import write_model

CONTEXT = "The river Aare rises in the Bernese Alps. It flows past Thun and Bern, and joins the Rhine near Koblenz. "
VOCAB_SIZE = 340
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "bert": ("masked_lm", SIZES),
    "roberta": ("masked_lm", SIZES),
    "modernbert": ("masked_lm", SIZES),
    "gpt2": ("causal_lm", {"n_embd": 32, "n_layer": 2, "n_head": 2}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    texts = [CONTEXT, "Where does it rise?"] * 2
    return {
        family: write_model(
            tmp_path_factory.mktemp(family),
            family,
            *about,
            texts=texts,
            longest=128,
            num_entries=VOCAB_SIZE,
            begin=family != "gpt2",
            token_types=family == "bert",
        )
        for family, about in MODELS.items()
    }


def task(**settings: Any) -> QuestionAnswering:
    made = build_task(TaskSettings(kind="question_answering", **{"max_tokens": 64} | settings), SetFacts())
    assert isinstance(made, QuestionAnswering)
    return made


def rows(*questions: tuple[str, str, str | None]) -> pa.Table:
    answers = [
        [] if answer is None else [{"text": answer, "start": context.index(answer)}] for _, context, answer in questions
    ]
    kind = pa.list_(pa.struct([("text", pa.string()), ("start", pa.int32())]))
    columns = {"question": [one[0] for one in questions], "context": [one[1] for one in questions]}
    return pa.table({"id": [f"q{n}" for n in range(len(questions))], **columns, "answers": pa.array(answers, kind)})


ASKED = rows(("Where does it rise?", CONTEXT, "Bernese Alps"), ("Who?", CONTEXT, None), ("Past?", CONTEXT * 4, "Thun"))


def test_of_a_long_context_few_windows_without_the_answer_are_learnt(folders: dict[str, Path]) -> None:
    reader = Reader.of(folders["bert"])
    asked = rows(*(("Past?", CONTEXT * 4, "Thun") for _ in range(8)))
    every, two, none = (task(answerless_windows=number).features(reader, asked).examples for number in (None, 2, 0))
    with_answer = [window for window in every if window.span != NO_ANSWER]
    assert none == with_answer and len(with_answer) >= 8
    assert len(two) == len(with_answer) + 16 < len(every)
    assert two == task(answerless_windows=2).features(reader, asked).examples, "the same ones each time"
    apart = {window.begins[0] for window in two if window.span == NO_ANSWER}
    assert len(apart) > 3, "each question draws its own"
    assert task(answerless_windows=999).features(reader, asked).examples == every


@pytest.mark.parametrize("family", sorted(MODELS))
def test_heads_and_loss_are_those_of_plain_transformers(folders: dict[str, Path], family: str, tmp_path: Path) -> None:
    made, reader = task(), Reader.of(folders[family])
    model = made.build_model(folders[family], seed=3, random_weights=False).eval()
    windows = made.features(reader, ASKED).examples
    assert len(windows) > 6
    batch = made.collate(windows)
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    plain = AutoModelForQuestionAnswering.from_pretrained(tmp_path).eval()
    theirs = 0.0
    with torch.no_grad():
        scores = batch.by_window(made.scores(model, batch))
        for window, of_window in zip(windows, scores, strict=True):
            types = {"token_type_ids": torch.tensor([window.types])} if family == "bert" else {}
            start, stop = (torch.tensor([place]) for place in window.span)
            out = plain(input_ids=torch.tensor([window.tokens]), start_positions=start, end_positions=stop, **types)
            theirs += float(out.loss)
            assert np.stack([out.start_logits[0], out.end_logits[0]], 1) == pytest.approx(of_window, abs=1e-5)
        assert float(made.loss_sums(model, batch)) == pytest.approx(theirs, rel=1e-5)
    assert made.num_targets(batch) == (len(windows),)


words = st.lists(st.sampled_from(["Aare", "Thun", "Bern, ", "the", "x.", "Ä"]), min_size=1, max_size=60)


@given(context=words, data=st.data(), max_tokens=st.integers(24, 64), family=st.sampled_from(["bert", "gpt2"]))
def test_windows_cover_the_context_and_a_span_is_the_answer(
    folders: dict[str, Path], context: list[str], data: st.DataObject, max_tokens: int, family: str
) -> None:
    text = " ".join(context)
    start = data.draw(st.integers(0, len(context) - 1))
    answer = " ".join(context[start : data.draw(st.integers(start + 1, len(context)))]).strip()
    made = task(max_tokens=max_tokens)
    asked = rows(("Where?", text, answer))
    windows = made.features(Reader.of(folders[family]), asked).examples
    at = text.index(answer)
    covered, found = set(), 0
    for window in windows:
        assert len(window.tokens) <= max_tokens
        covered |= {place for begin, end in zip(window.begins, window.ends, strict=True) for place in range(begin, end)}
        inside = window.begins[0] <= at and at + len(answer) <= window.ends[-1]
        assert (window.span != (0, 0)) == inside
        if inside:
            found += 1
            first, last = (place - window.first for place in window.span)
            told = text[window.begins[first] : window.ends[last]]
            assert told.strip() == answer or (answer in told and len(told) < len(answer) + 6)
    assert {place for place, letter in enumerate(text) if letter != " "} <= covered
    assert found or len(windows) > 1


def test_a_question_too_long_is_cut_and_counted(folders: dict[str, Path]) -> None:
    features = task(max_tokens=32).features(Reader.of(folders["bert"]), rows(("Where? " * 40, CONTEXT, "Thun")))
    assert features.num_truncated == 1
    assert all(window.begins for window in features.examples)


@given(seed=st.integers(0, 10_000), max_tokens=st.integers(1, 12), threshold=st.sampled_from([-2.0, 0.0, 3.0]))
def test_the_best_span_is_the_best_of_all(
    folders: dict[str, Path], seed: int, max_tokens: int, threshold: float
) -> None:
    example = task(max_tokens=32).judged(Reader.of(folders["bert"]), ASKED).examples[0]
    assert len(example.windows) > 1
    rng = np.random.default_rng(seed)
    scores = [rng.normal(size=(len(window.tokens), 2)).astype(np.float32) for window in example.windows]
    scores = [np.round(of_window * 8) / 8 for of_window in scores]  # exact sums, so that both ways add up alike
    everything = [
        float(of_window[window.first + start, 0] + of_window[window.first + stop, 1])
        for window, of_window in zip(example.windows, scores, strict=True)
        for start, stop in product(range(len(window.begins)), repeat=2)
        if 0 <= stop - start < max_tokens and CONTEXT[window.begins[start] : window.ends[stop]].strip()
    ]
    null = min(float(of_window[0].sum()) for of_window in scores)
    span = best_span(example, scores, max_tokens=max_tokens, null_threshold=threshold)
    assert span.no_answer_score == null - span.score
    assert (span.text == "") == (span.no_answer_score > threshold)
    assert max(len(window.begins) for window in example.windows) <= 20, "all of its tokens are looked at"
    assert span.score == max(everything)


def test_a_trained_model_is_read_again_and_judges_in_whichever_batches(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = task()
    model = made.build_model(folders["bert"], seed=3, random_weights=False)
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    Reader.of(folders["bert"]).tokenizer.save_pretrained(tmp_path)
    again = task_from_about({"task": made.about()})
    assert again == made
    predictor = again.predictor(tmp_path)
    whole, num_truncated = predictor.predict(ASKED, batch_tokens=10_000)
    monkeypatch.setattr(question_answering, "_ROWS_TOGETHER", 2)
    apart, _ = predictor.predict(ASKED, batch_tokens=1)
    assert whole["prediction"] == apart["prediction"] and num_truncated == 0
    assert whole["no_answer_score"] == pytest.approx(apart["no_answer_score"], abs=1e-5)
    examples = made.judged(Reader.of(tmp_path), ASKED).examples
    judged = [made.judge(predictor.model, part, torch.device("cpu")) for part in (examples[:1], examples[1:], examples)]  # type: ignore[attr-defined]
    assert judged[0].loss_sum + judged[1].loss_sum == pytest.approx(judged[2].loss_sum, rel=1e-5)
    assert judged[2].num_targets == len(made.features(Reader.of(tmp_path), ASKED).examples)
    assert judged[2].rows["prediction"].to_pylist() == whole["prediction"]
    assert [[one["text"] for one in row] for row in judged[2].rows["answers"].to_pylist()] == [
        ["Bernese Alps"],
        [],
        ["Thun"],
    ]
    with pytest.raises(CheckpointError, match=r"weights \['qa_outputs"):
        made.predictor(folders["bert"])


def test_full_marks_for_the_true_spans(folders: dict[str, Path]) -> None:
    made = task()
    for example in made.judged(Reader.of(folders["bert"]), ASKED).examples:
        scores = [np.zeros((len(window.tokens), 2), np.float32) for window in example.windows]
        for window, of_window in zip(example.windows, scores, strict=True):
            of_window[window.span[0], 0] = of_window[window.span[1], 1] = 9.0
        told = made.answer(example, scores).text
        assert told == (example.answers[0] if example.answers else "")


def test_what_cannot_be_asked_is_refused(folders: dict[str, Path]) -> None:
    wrong = rows(("Where?", CONTEXT, "Thun")).set_column(
        3, "answers", pa.array([[{"text": "Thun", "start": 3}]], ASKED.schema.field("answers").type)
    )
    with pytest.raises(CorpusError, match="question 'q0': 'Thun' does not stand at character 3"):
        task().features(Reader.of(folders["bert"]), wrong)
    assert isinstance(task().judged(Reader.of(folders["bert"]), ASKED).examples[0], QuestionExample)
    with pytest.raises(ConfigError, match=r"task\.prompt=.* is not read by question_answering"):
        task(prompt="{question}")
