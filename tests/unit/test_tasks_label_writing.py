"""Classes by the names that are written: their probabilities are those of plain transformers, and fit what is cut."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from llmcore.config.task import TaskSettings
from llmcore.errors import ConfigError
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.metrics import make_metrics
from llmcore.tasks import build_task, task_from_about
from llmcore.tasks.base import Reader, SetFacts
from llmcore.tasks.label_writing import LabelWriting
from tests.bases import write_base

NAMES = ("red", "blue house", "tree")
FACTS = SetFacts(NAMES, (1, 1, 1), False, ("id", "text", "label", "group"))
ROWS = pa.table({"id": ["a", "b", "c"], "text": ["a red cat", "dog " * 30, "tree"], "label": [0, 1, 2]})


def task_of(facts: SetFacts = FACTS, **settings: Any) -> LabelWriting:
    task = build_task(TaskSettings.model_validate({"answer": "text", "max_tokens": 48} | settings), facts)
    assert isinstance(task, LabelWriting)
    return task


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    for family in ("gpt2", "t5", "bert"):
        write_base(root / family, family)
    return {family: root / family for family in ("gpt2", "t5", "bert")}


def _plain(folder: Path, family: str, prompt: list[int], name: list[int]) -> float:
    """Log-likelihood of a name after a prompt."""
    with torch.no_grad():
        if family == "t5":
            model: Any = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
            return -float(model(torch.tensor([prompt]), labels=torch.tensor([name])).loss) * len(name)
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        labels = torch.tensor([[-100] * len(prompt) + name])
        return -float(model(torch.tensor([prompt + name]), labels=labels).loss) * len(name)


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_probabilities_are_those_of_the_names_in_plain_transformers(folders: dict[str, Path], family: str) -> None:
    folder, task = folders[family], task_of()
    reader = Reader.of(folder)
    names = [[*name, reader.end] for name in reader.tokens(NAMES)]
    columns, num_truncated = task.predictor(folder).predict(ROWS, batch_tokens=200)
    assert num_truncated == 1
    for example, told, prediction in zip(
        task.judged(reader, ROWS).examples, columns["probabilities"], columns["prediction"], strict=True
    ):
        assert [one.answer for one in example.names] == names
        [prompt] = {tuple(one.prompt) for one in example.names}
        plain = torch.tensor([_plain(folder, family, list(prompt), name) for name in names]).softmax(0)
        assert told.tolist() == pytest.approx(plain.tolist(), rel=1e-4)
        assert prediction == int(plain.argmax())


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_what_is_judged_is_the_loss_that_is_learnt_and_the_metrics_of_a_head(
    folders: dict[str, Path], family: str
) -> None:
    task, reader = task_of(), Reader.of(folders[family])
    model = task.build_model(folders[family], seed=1, random_weights=False).eval()
    judged = task.judge(model, task.judged(reader, ROWS).examples, torch.device("cpu"))
    batch = task.collate(task.features(reader, ROWS).examples)
    with torch.no_grad():
        learnt = float(task.loss_sums(model, batch))
    assert (judged.loss_sum, judged.num_targets) == (pytest.approx(learnt, rel=1e-5), *task.num_targets(batch))
    for metric in make_metrics(Subject("text_classification", NAMES), task.validation_metrics):
        assert metric.measure(judged.rows) is not None
    assert judged.rows["label"].to_pylist() == [0, 1, 2]


def test_the_manifest_makes_the_task_again() -> None:
    task = task_of(SetFacts(NAMES, (), False, ("text", "text_pair", "label")))
    assert task.prompt == "{text}\n{text_pair}\n"
    assert task_from_about({"task": task.about()}) == task
    head = build_task(TaskSettings(), FACTS)
    assert task_from_about({"task": head.about()}) == head


@pytest.mark.parametrize(
    ("facts", "settings", "message"),
    [
        (SetFacts(NAMES, (), True), {}, "several a row: use a head"),
        (FACTS, {"class_weights": "balanced"}, "class_weights='balanced' is not read by text_classification"),
        (FACTS, {"prompt": "{label}"}, "a text_classification prompt is made of"),
        (FACTS, {"kind": "translation"}, "answer='text' is not read by translation"),
    ],
)
def test_settings_that_do_not_fit_are_refused(facts: SetFacts, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        task_of(facts, **settings)


def test_a_name_longer_than_its_room_and_an_encoder_are_refused(folders: dict[str, Path]) -> None:
    task = task_of(max_answer_tokens=2)
    with pytest.raises(ConfigError, match=r"max_answer_tokens=2: the longest of \['red', 'blue house', 'tree'\]"):
        task.features(Reader.of(folders["gpt2"]), ROWS)
    with pytest.raises(ConfigError, match="an encoder, which cannot write"):
        task_of().build_model(folders["bert"], seed=0, random_weights=False)
