"""A training's examples are those that the task makes, in less memory, and make the same batches."""

import tracemalloc
from array import array
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmcore.config.task import TaskSettings
from llmcore.tasks import build_task
from llmcore.tasks.base import Features, Reader, SetFacts
from llmcore.tasks.compact import compact, compact_features
from tests.bases import write_model

TEXTS = ["a cat sits here", "dogs run", "yes", "where does it sit?"]
NUM_ROWS = 2500
GPT2 = ("gpt2", "causal_lm", {"n_embd": 16, "n_layer": 1, "n_head": 1})
BERT = ("bert", "masked_lm", {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1})
IDS = [f"row-{number}" for number in range(NUM_ROWS)]
SOME = [" ".join(TEXTS[: 1 + number % 4]) for number in range(NUM_ROWS)]
ASKED = ["dogs? " * (1 + 19 * (number % 2)) for number in range(NUM_ROWS)]
TALK = [{"role": "user", "content": "dogs?"}, {"role": "assistant", "content": "yes"}]
ANSWERS = pa.array([[{"text": "cat", "start": 2}]] * NUM_ROWS)
SETS: dict[str, dict[str, Any]] = {
    "text_classification": {"text": SOME, "label": [number % 2 for number in range(NUM_ROWS)]},
    "question_answering": {"question": ASKED, "context": SOME, "answers": ANSWERS},
    "translation": {"source": SOME, "target": SOME[::-1]},
    "chat": {"messages": [TALK * (1 + number % 4) for number in range(NUM_ROWS)]},
}


class Named(NamedTuple):
    tokens: Any
    others: Any


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    folder = tmp_path_factory.mktemp("models")
    return {
        about[0]: Reader.of(
            write_model(folder / about[0], *about, texts=TEXTS * 2, longest=64, begin=about[0] == "bert")
        )
        for about in (GPT2, BERT)
    }


@pytest.mark.parametrize("kind", sorted(SETS))
@pytest.mark.parametrize("made_by", ["features", "judged"])
def test_batches_are_those_of_the_task_s_own_examples(readers: dict[str, Reader], kind: str, made_by: str) -> None:
    task = build_task(TaskSettings(kind=kind, max_tokens=24), SetFacts(label_names=("no", "yes"), label_counts=(1, 1)))
    reader = readers["bert" if kind == "question_answering" else "gpt2"]
    table = pa.table({"id": IDS, **SETS[kind]})
    make = getattr(task, made_by)
    plain: Features = make(reader, table)
    kept = compact_features(make, reader, table)
    assert kept.num_truncated == plain.num_truncated > 0
    assert [one.num_tokens for one in kept.examples] == [one.num_tokens for one in plain.examples]
    assert "list" not in _types(kept.examples[0])
    if (kind, made_by) == ("question_answering", "judged"):
        return  # a question is no example to learn from: its windows are
    one, other = (task.collate(found.examples[1000:1100]) for found in (plain, kept))
    assert _plain(one) == _plain(other)
    placeholder = task.collate([task.without_target(kept.examples[0])])
    assert task.num_targets(placeholder) == (0,)


def test_a_token_takes_a_quarter_of_the_memory(readers: dict[str, Reader]) -> None:
    task = build_task(TaskSettings(kind="translation", max_tokens=1000), SetFacts())
    text = " ".join(TEXTS * 20)
    table = pa.table({"id": IDS[:200], "source": [text] * 200, "target": [text] * 200})

    def bytes_a_token(make: Any) -> float:
        tracemalloc.start()
        examples = make().examples
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return kept / sum(example.num_tokens for example in examples)

    plain = bytes_a_token(lambda: task.features(readers["gpt2"], table))
    kept = bytes_a_token(lambda: compact_features(task.features, readers["gpt2"], table))
    print(f"{plain:.1f} bytes a token in lists, {kept:.1f} in arrays")
    assert kept < plain / 4


@given(st.lists(st.integers(0, 2**31 - 1)), st.lists(st.booleans()), st.lists(st.text(max_size=3)), st.integers())
def test_what_is_no_list_of_numbers_stays_as_it_is(
    tokens: list[int], truths: list[bool], texts: list[str], number: int
) -> None:
    kept = compact(Named(tokens, (Named(truths, number), texts, "text", None)))
    assert list(kept.tokens) == tokens and kept.tokens[:1] == (array("i", tokens[:1]) if tokens else [])
    inner, *others = kept.others
    assert type(kept) is type(inner) is Named
    assert [bool(one) for one in inner.tokens] == truths and inner.others == number
    assert others == [texts, "text", None]


@pytest.mark.parametrize("value", [[1, None], [2**31], [-(2**40), 1], [1, 0.5], [True, "no"], [[1], [2]], []])
def test_a_list_that_no_array_can_hold_stays_a_list(value: list[Any]) -> None:
    assert compact(value) is value


def _types(value: Any) -> set[str]:
    inside = [_types(part) for part in value if part != []] if isinstance(value, tuple) else []
    return {type(value).__name__}.union(*inside)


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return [_plain(getattr(value, field.name)) for field in fields(value)] if is_dataclass(value) else value
