"""Every kind of task from rows to an export that answers, on two ranks at ZeRO-3, without Ray."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.metrics import make_metrics
from llmcore.evaluation.score import Scorer
from llmcore.records import read_metrics
from llmcore.storage import Folder, read_manifest
from llmcore.tasks.columns import KINDS
from llmcore.tasks.evaluation_set import EvaluationSet, write_evaluation_set
from tests.bases import BASES, WORDS, finetuned, write_base
from tests.ranks import run_ranks

NUM_STEPS = 16
CASES = {
    "translation": "gpt2",
    "translation by an encoder-decoder": "t5",
    "question_answering": "bert",
    "question_answering by a decoder": "gpt2",
    "text_classification": "bert",
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
    }
    return {"id": f"r{number}", "group": f"g{number // 2}", **rows[kind]}


def _table(kind: str, numbers: range) -> pa.Table:
    columns = KINDS[kind].chosen(_row(kind, 0).keys() - {"id", "group"})
    return pa.Table.from_pylist([_row(kind, number) for number in numbers], schema=columns.schema())


def _kind(case: str) -> str:
    return case.partition(" ")[0]


def _publish(storage: Folder, kind: str) -> EvaluationSet:
    columns = KINDS[kind].chosen(_row(kind, 0).keys() - {"id", "group"})
    splits = {"train": range(20), "validation": range(20, 25), "test": range(25, 31)}
    tables: Any = {split: [_table(kind, numbers)] for split, numbers in splits.items()}
    names = ["any", "third"] if columns.has_labels else []
    return write_evaluation_set(storage, kind, names, tables, columns=columns, allow_duplicates=True)


def _train(root: str, sets: dict[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
    """Trains each case on this rank; the folders of their exports, and their outcomes."""
    exports, outcomes = {}, {}
    for case, family in CASES.items():
        run, task = f"{root}/{case}", {"kind": _kind(case)}
        outcome = finetuned(Path(root, family), sets[_kind(case)], run, task, num_steps=NUM_STEPS)
        exports[case] = f"{run}/exports/{outcome['progress']['best_export']}"
        outcomes[case] = outcome
    return exports, outcomes


Trained = tuple[dict[str, EvaluationSet], dict[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    root = tmp_path_factory.mktemp("kinds")
    for family in BASES:
        write_base(root / family, family)
    sets = {kind: _publish(Folder(str(root / "sets")), kind) for kind in map(_kind, CASES)}
    urls = {kind: labelled.folder.url for kind, labelled in sets.items()}
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
    labelled, export = trained[0][_kind(case)], Folder(trained[1][case])
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
    scorer, rows = Scorer.load(Folder(trained[1][case])), trained[0][_kind(case)].rows("test")
    together, alone = (scorer.predict(rows, batch_tokens=size).table["prediction"] for size in (4096, 1))
    assert together.to_pylist() == alone.to_pylist()


@pytest.mark.parametrize("case", CASES)
def test_how_long_examples_are_is_told_and_nothing_is_padding(trained: Trained, case: str) -> None:
    labelled, outcome = trained[0][_kind(case)], trained[2][case]
    assert outcome["padding_share"] == 0.0
    for split in ("train", "validation"):
        told = outcome["examples"][split]
        assert told["num_rows"] == labelled.num_rows(split) <= told["num_examples"]  # type: ignore[arg-type]
        assert 0 < told["mean_tokens"] <= told["longest_tokens"]
        assert told["num_truncated"] <= told["num_rows"]
