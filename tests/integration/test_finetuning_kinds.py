"""Every kind of task from rows to an export that answers, on two ranks at ZeRO-3, without Ray."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from transformers import AutoTokenizer

from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.metrics import make_metrics
from llmcore.evaluation.score import Scorer
from llmcore.records import read_metrics
from llmcore.storage import Folder, read_manifest
from llmcore.tasks import task_class
from llmcore.tasks.columns import KINDS
from llmcore.tasks.evaluation_set import EvaluationSet, write_evaluation_set
from tests.bases import BASES, WORDS, finetuned, write_base
from tests.ranks import run_ranks

NUM_STEPS = 16
ONE_LABEL = "text_classification of one label"
CASES = {
    "translation": "gpt2",
    "translation by an encoder-decoder": "t5",
    "question_answering": "bert",
    "question_answering by a decoder": "gpt2",
    "text_classification": "bert",
    "text_classification by a decoder": "gpt2",
    ONE_LABEL: "bert",
    f"{ONE_LABEL}, written": "gpt2",
    f"{ONE_LABEL}, written by an encoder-decoder": "t5",
    f"{ONE_LABEL} by a decoder": "gpt2",
    "chat": "gpt2",
    "summarization": "t5",
    "code_generation": "gpt2",
    "text_generation": "gpt2",
}
"""Kinds, and what learns them."""


def _pair(number: int) -> tuple[str, str]:
    one, other = (list(WORDS)[at % len(WORDS)] for at in (number, number // len(WORDS) + number))
    return f"{one} {other}", f"{WORDS[one]} {WORDS[other]}"


def _row(kind: str, number: int) -> dict[str, Any]:
    source, target = _pair(number)
    context = f"{source} and {target}. " * (1 + number % 3)
    first = target.split()[0]
    rows: dict[str, dict[str, Any]] = {
        "translation": {"source": source, "target": target},
        "summarization": {"document": context, "summary": target},
        "text_generation": {"prompt": source, "completion": target},
        "code_generation": {"prompt": source, "solution": f"x = '{first}'", "tests": [f"assert x == '{first}'"]},
        "chat": {
            "messages": [
                {"role": "user", "content": source},
                {"role": "assistant", "content": target},
                {"role": "user", "content": target},
                {"role": "assistant", "content": source},
            ]
        },
        "question_answering": {
            "question": f"{source.split()[0]}?",
            "context": context,
            "answers": [] if number % 4 == 3 else [{"text": first, "start": context.index(first)}],
        },
        "text_classification": {"text": source, "text_pair": target, "labels": [0] if number % 3 else [0, 1]},
        ONE_LABEL: {"text": source, "label": int(source.startswith("red"))},
    }
    return {"id": f"r{number}", "group": f"g{number // 2}", **rows[kind]}


def _kind(case: str) -> str:
    return case.partition(" ")[0]


def _set(case: str) -> str:
    """What the labelled set of a case is called: that of its kind, unless it has one of its own."""
    return ONE_LABEL if case.startswith(ONE_LABEL) else _kind(case)


def _publish(storage: Folder, name: str) -> EvaluationSet:
    columns = KINDS[_kind(name)].chosen(_row(name, 0).keys() - {"id", "group"})
    splits = {"train": range(20), "validation": range(20, 25), "test": range(25, 31)}
    tables: Any = {
        split: [pa.Table.from_pylist([_row(name, number) for number in numbers], schema=columns.schema())]
        for split, numbers in splits.items()
    }
    names = ["any", "third"] if columns.has_labels else []
    return write_evaluation_set(storage, name, names, tables, columns=columns, allow_duplicates=True)


def _train(root: str, sets: dict[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
    """Trains each case on this rank; the folders of their exports, and their outcomes."""
    exports, outcomes = {}, {}
    for case, family in CASES.items():
        run, task = f"{root}/{case}", {"kind": _kind(case)} | ({"answer": "text"} if "written" in case else {})
        outcome = finetuned(Path(root, family), sets[_set(case)], run, task, num_steps=NUM_STEPS)
        exports[case] = f"{run}/exports/{outcome['progress']['best_export']}"
        outcomes[case] = outcome
    return exports, outcomes


Trained = tuple[dict[str, EvaluationSet], dict[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    root = tmp_path_factory.mktemp("kinds")
    for family in BASES:
        write_base(root / family, family)
    sets = {name: _publish(Folder(str(root / "sets")), name) for name in map(_set, CASES)}
    urls = {name: labelled.folder.url for name, labelled in sets.items()}
    [(exports, outcomes), _] = run_ranks(2, _train, str(root), urls, out=root / "out")
    return sets, exports, outcomes


@pytest.mark.parametrize("case", CASES)
def test_its_loss_falls(trained: Trained, case: str) -> None:
    run = Folder(trained[1][case].partition("/exports/")[0])
    losses = [row["loss"] for row in read_metrics(run) if "loss" in row]
    assert len(losses) == NUM_STEPS
    assert sum(losses[-4:]) < 0.95 * sum(losses[:4])


@pytest.mark.parametrize("case", CASES)
def test_the_export_answers_every_row_and_has_the_metrics_that_were_told(trained: Trained, case: str) -> None:
    labelled, export = trained[0][_set(case)], Folder(trained[1][case])
    manifest = read_manifest(export)
    assert manifest is not None
    scorer = Scorer.load(export)
    rows = labelled.rows("validation")
    predictions = scorer.predict(rows, batch_tokens=256).table
    assert predictions["id"].equals(rows["id"])
    told = {name.removeprefix("validation_"): value for name, value in manifest.about["metrics"].items()}
    metrics = make_metrics(Subject.of(labelled), scorer.task.validation_metrics)
    assert {metric.name for metric in metrics} == told.keys() - {"loss"}
    for metric in metrics:
        sums = metric.sums(predictions)  # type: ignore[attr-defined]  # all of these are additive
        assert float(metric.value(sums)) == pytest.approx(told[metric.name], rel=1e-4), metric.name  # type: ignore[attr-defined]


@pytest.mark.parametrize("case", CASES)
def test_answers_do_not_depend_on_the_batch(trained: Trained, case: str) -> None:
    scorer, rows = Scorer.load(Folder(trained[1][case])), trained[0][_set(case)].rows("test")
    together, alone = (scorer.predict(rows, batch_tokens=size).table["prediction"] for size in (4096, 1))
    assert together.to_pylist() == alone.to_pylist()


@pytest.mark.parametrize("case", CASES)
def test_how_long_examples_are_is_told_and_nothing_is_padding(trained: Trained, case: str) -> None:
    labelled, outcome = trained[0][_set(case)], trained[2][case]
    assert outcome["padding_share"] == 0.0
    for split in ("train", "validation"):
        told = outcome["examples"][split]
        assert told["num_rows"] == labelled.num_rows(split) <= told["num_examples"]  # type: ignore[arg-type]
        assert 0 < told["mean_tokens"] <= told["longest_tokens"]
        assert told["num_truncated"] <= told["num_rows"]


def _asked(case: str, said: dict[str, Any]) -> dict[str, Any]:
    """The row that a card's example asks of."""
    match _kind(case):
        case "text_classification" if "written" in case:
            return {"text": "A cat sits on the mat."}
        case "text_classification":
            pair = {} if _set(case) == ONE_LABEL else {"text_pair": "A dog runs in the garden."}
            return {"text": said["text"], **pair}
        case "question_answering":
            return {"question": said["question"], "context": said["context"]}
        case "chat":
            return {"messages": [said["messages"][0], {"role": "assistant", "content": "Yes."}]}
        case kind:
            column = next(column.name for column in KINDS[kind].columns if column.is_input)
            return {column: "A cat sits on the mat.", task_class(kind).answer_column: "?"}  # type: ignore[attr-defined]


def _answer(case: str, told: dict[str, Any], names: tuple[str, ...]) -> Any:
    """What the example is to say, by the columns of a prediction; of classes their names and probabilities."""
    if _kind(case) != "text_classification":
        return told["prediction"]
    if "written" in case:
        return pytest.approx(dict(zip(names, told["probabilities"], strict=True)), abs=1e-5)
    shares = sorted(zip(told["probabilities"], names, strict=True), reverse=True)
    answers = [{"label": name, "score": pytest.approx(share, abs=1e-5)} for share, name in shares]
    return answers[:1] if _set(case) == ONE_LABEL else answers


@pytest.mark.parametrize("case", CASES)
def test_the_example_of_the_card_gives_the_same_answer(
    trained: Trained, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = Path(trained[1][case])
    card = (export / "README.md").read_text()
    [example] = re.findall(r"^```python\n(.*?)^```$", card, flags=re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(export)
    said: dict[str, Any] = {}
    exec(example, said)  # the code that the card shows
    row = {"id": "r", "group": "g", **_asked(case, said)}
    scorer = Scorer.load(Folder(str(export)))
    [told] = scorer.predict(pa.Table.from_pylist([row]), batch_tokens=256).table.to_pylist()
    names = getattr(scorer.task, "label_names", ())
    assert said["answer"] == _answer(case, told, names)
    assert f"pipeline_tag: {scorer.task.pipeline_tag}\n" in card and scorer.task.told() in card


def test_a_chat_export_has_its_template(trained: Trained) -> None:
    tokenizer = AutoTokenizer.from_pretrained(trained[1]["chat"])
    written = tokenizer.apply_chat_template([{"role": "user", "content": "cat"}], tokenize=False)
    assert written == "### user\ncat\n"
