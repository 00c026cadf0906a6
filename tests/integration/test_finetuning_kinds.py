"""Every kind of task from rows to an export that answers, on two ranks at ZeRO-3, without Ray."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from llmcore.config.finetune import FinetuneSettings
from llmcore.config.model import ModelSettings
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.metrics import make_metrics
from llmcore.evaluation.score import Scorer
from llmcore.models.build import build_language_model, model_config
from llmcore.records import read_metrics
from llmcore.storage import Folder, read_manifest
from llmcore.tasks.columns import KINDS
from llmcore.tasks.evaluation_set import EvaluationSet, write_evaluation_set
from llmcore.tokens.tokenizer import OWN_IDS, hugging_face_files, train_tokenizer
from tests.ranks import run_ranks

VOCAB_SIZE, NUM_STEPS = 330, 16
WORDS = {"red": "rot", "blue": "blau", "cat": "Katze", "dog": "Hund", "house": "Haus", "tree": "Baum"}
BASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "gpt2": ("causal_lm", {"n_embd": 32, "n_layer": 1, "n_head": 2}),
    "bert": (
        "next_sentence",
        {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64},
    ),
    "t5": (
        "span_corruption",
        {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2, "initializer_factor": 0.3},
    ),
}
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


def _write_base(folder: Path, family: str) -> None:
    learnt, sizes = BASES[family]
    settings = ModelSettings(family=family, sizes=sizes)  # type: ignore[arg-type]
    config = model_config(settings, vocab_size=VOCAB_SIZE, sequence_length=96, eos_id=OWN_IDS.end, pad_id=OWN_IDS.pad)
    build_language_model(learnt, config, seed=1).save_pretrained(folder)  # type: ignore[operator]
    tokenizer = train_tokenizer([text for pair in WORDS.items() for text in pair] * 3, VOCAB_SIZE)
    files = hugging_face_files(tokenizer, 96, begin=family == "bert", token_types=family == "bert")
    for name, data in files.items():
        (folder / name).write_bytes(data)


def _train(root: str, sets: dict[str, str]) -> dict[str, str]:
    """Trains each case on this rank; the folders of their exports."""
    from llmcore.cost import Ledger
    from llmcore.train.finetuning import Finetuning
    from llmcore.train.fit import fit
    from llmcore.train.place import Place

    exports = {}
    for case, family in CASES.items():
        train = {"num_steps": NUM_STEPS, "global_batch_size": 5, "micro_batch_size": 2, "zero_stage": 3}
        train |= {"precision": "fp32", "log_every": 1, "optimizer": {"learning_rate": 1e-2}}
        task = {"kind": _kind(case), "max_tokens": 48}
        settings = FinetuneSettings.model_validate({"task": task, "train": train})
        data = EvaluationSet.open(Folder(sets[_kind(case)]))
        recipe = Finetuning(settings, Path(root, family), data, "0" * 64)
        place = Place(Folder(f"{root}/{case}"), attempt=1)
        outcome = fit(
            recipe,
            place,
            device=torch.device("cpu"),
            report=lambda _: None,
            pulse=lambda: None,
            ledger=Ledger(1, "cpu"),
        )
        exports[case] = f"{place.run.url}/exports/{outcome['progress']['newest_export']}"
    return exports


Trained = tuple[dict[str, EvaluationSet], dict[str, str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    root = tmp_path_factory.mktemp("kinds")
    for family in BASES:
        (root / family).mkdir()
        _write_base(root / family, family)
    sets = {kind: _publish(Folder(str(root / "sets")), kind) for kind in map(_kind, CASES)}
    urls = {kind: labelled.folder.url for kind, labelled in sets.items()}
    [exports, _] = run_ranks(2, _train, str(root), urls, out=root / "out")
    return sets, exports


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
