"""The documented task that the package does not have, word for word: from files to an export that answers."""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from jobs.finetune import check_task, find_inputs
from llmcore.config.labelled import LabelledDataSettings
from llmcore.config.task import TaskSettings
from llmcore.errors import ConfigError, CorpusError
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.metrics import make_metric
from llmcore.evaluation.score import Scorer
from llmcore.records import read_metrics
from llmcore.storage import Folder, publish, read_manifest, write_file
from llmcore.tasks import task_class
from llmcore.tasks.evaluation_set import EvaluationSet
from llmcore.tasks.labelled import publish_labelled_data
from tests.bases import WORDS, finetuned, write_base
from tests.documented import install_example, write_example
from tests.drivers import ROOT, run_jobs
from tests.ranks import run_ranks
from tests.tiny import write_config

KIND = "similarity:Similarity"
TASK: dict[str, Any] = {"kind": KIND, "options": {"highest": 4}}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the example, where it can be imported, and with files of its rows."""
    root = tmp_path_factory.mktemp("own")
    write_example(root)
    words = list(WORDS)
    rows = [(one, other, 4.0 if one[0] < other[0] else 0.5) for one in words for other in words]
    for split, part in (("train", rows[::2]), ("validation", rows[1::4]), ("test", rows[3::4])):
        lines = [f"{one} thing\t{other}\t{score}" for one, other, score in part]
        (root / f"{split}.tsv").write_text("\n".join(["text\ttext_pair\tscore", *lines]), encoding="utf-8")
    sys.path.insert(0, str(root))
    yield root
    sys.path.remove(str(root))
    sys.modules.pop("similarity", None)


def _data(root: Path, **changes: Any) -> LabelledDataSettings:
    files = {split: str(root / f"{split}.tsv") for split in ("train", "validation", "test")}
    return LabelledDataSettings.model_validate(files | {"allow_duplicates": True} | changes)


@pytest.fixture(scope="module")
def labelled(root: Path) -> EvaluationSet:
    return publish_labelled_data(Folder(str(root)), _data(root), task_class(KIND).set_kind).evaluation_set


def _train(root: str, labelled: str) -> dict[str, Any]:
    train = {"num_steps": 60, "validate_every": 15, "global_batch_size": 9}
    return finetuned(Path(root, "bert"), labelled, f"{root}/run", TASK, **train)


def test_it_learns_on_two_ranks_and_its_export_answers(root: Path, labelled: EvaluationSet) -> None:
    write_base(root / "bert", "bert")
    [outcome, _] = run_ranks(2, _train, str(root), labelled.folder.url, out=root / "out")
    losses = [row["loss"] for row in read_metrics(Folder(str(root / "run"))) if "loss" in row]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    export = Folder(str(root / "run/exports")) / outcome["progress"]["best_export"]
    manifest = read_manifest(export)
    assert manifest is not None and manifest.about["task"]["kind"] == KIND
    scorer = Scorer.load(export)
    assert scorer.task.about()["highest"] == 4.0
    predictions = scorer.predict(labelled.rows("validation"), batch_tokens=64).table
    assert predictions.column_names == ["id", "group", "score", "prediction"]
    told, scores = predictions["prediction"].to_numpy(), predictions["score"].to_numpy()
    subject = Subject.of(labelled)
    error: Any = make_metric(subject, "similarity:squared_error")
    assert error.value(error.sums(predictions)) == pytest.approx(np.mean((told - scores) ** 2), rel=1e-6)
    assert manifest.about["metrics"]["validation_squared_error"] == pytest.approx(
        float(np.mean((told - scores) ** 2)), rel=1e-3
    )
    ranks = make_metric(subject, "similarity:spearman").measure(predictions)
    rows = np.arange(len(told))
    whole = ranks(rows, rows, len(rows))(np.ones((1, len(rows))))
    assert whole == pytest.approx(spearmanr(told, scores).statistic, rel=1e-6)


def _publish_base(root: Path) -> None:
    write_base(root / "base-files", "bert")
    with publish(Folder(str(root / "base")), "model", {}) as publication:
        for file in (root / "base-files").iterdir():
            publication.add(write_file(Folder(str(root / "base")), file.name, file.read_bytes()))


def _check(root: Path, data: str | LabelledDataSettings, task: TaskSettings) -> None:
    """What a start does before it begins."""
    check_task(task, find_inputs(Folder(str(root)), str(root / "base"), data, task))


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"kind": "similarity:Similar"}, "cannot be imported"),
        ({"kind": "dissimilarity:Similarity"}, "cannot be imported"),
        ({"kind": "similarity:Pair"}, "is no class made of llmcore.tasks.base.Task"),
        ({**TASK, "options": {"lowest": 1}}, r"task.options.lowest is no option of similarity: there is \['highest'\]"),
        ({**TASK, "options": {"highest": "much"}}, "task.options.highest='much': Input should be a valid number"),
        ({**TASK, "options": {"highest": -1}}, "give a number above 0"),
        ({**TASK, "prompt": "{text}"}, r"task.prompt='\{text\}' is not read by similarity"),
        ({**TASK, "validation_metric": "similarity:spearman"}, "is not measured while a similarity model trains"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_worker_starts(root: Path, task: dict[str, Any], message: str) -> None:
    if not (root / "base").exists():
        _publish_base(root)
    with pytest.raises(ConfigError, match=message):
        _check(root, _data(root), TaskSettings.model_validate(task))


def test_an_installed_distribution_brings_it_by_its_name(root: Path, tmp_path: Path) -> None:
    """By the command line, in a process that finds the distribution as it finds any other."""
    install_example(tmp_path / "site")
    config = {
        "name": "alike",
        "storage": str(tmp_path / "runs"),
        "base": "a-run-that-is-still-to-come",
        "data": _data(root).model_dump(mode="json", exclude_unset=True),
        "task": TASK | {"kind": "similarity"},
        "train": {"num_steps": 1},
    }
    path = write_config(tmp_path / "alike.yaml", config)
    site = f"{ROOT}{os.pathsep}{tmp_path / 'site'}"
    ended = run_jobs("finetune", str(path), "--dry-run", cwd=tmp_path, PYTHONPATH=site)
    assert ended.code == 0, ended.out + ended.err
    assert "columns id, text, text_pair, score, group" in ended.out, "files are read by its columns"
    with pytest.raises(ConfigError, match=r"task\.kind='similarity' is no task: give one of"):
        task_class("similarity")  # in this process it is a module, and not installed


def test_a_set_without_its_columns_is_refused(root: Path) -> None:
    kind = task_class(KIND).set_kind
    with pytest.raises(CorpusError, match="similarity needs score"):
        publish_labelled_data(Folder(str(root)), _data(root, header=["text", "text_pair", "alike"]), kind)
    (root / "bad.tsv").write_text("text\ttext_pair\tscore\na\tb\tmuch", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"bad\.tsv row 0: score: could not convert string to float"):
        publish_labelled_data(Folder(str(root)), _data(root, train=str(root / "bad.tsv")), kind)


def test_metrics_of_a_validation_must_be_sums(root: Path, labelled: EvaluationSet, monkeypatch: Any) -> None:
    if not (root / "base").exists():
        _publish_base(root)
    similarity = importlib.import_module("similarity")
    monkeypatch.setattr(similarity.Similarity, "validation_metrics", ("similarity:spearman",))
    with pytest.raises(ConfigError, match="similarity:spearman among the validation_metrics of similarity is not addi"):
        _check(root, labelled.folder.url, TaskSettings(kind=KIND))
