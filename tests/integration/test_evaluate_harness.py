"""lm-evaluation-harness asks the models of an evaluation, and others: once each, and its figures stand beside ours."""

import csv
import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jobs.runtime.judging
import llmcore.evaluation.harness.asked
from jobs.evaluate import evaluate, finished, plan
from jobs.runtime.harness import AskHarness, Writer
from llmcore.config.evaluate import EvaluateConfig
from llmcore.errors import ConfigError, RunError
from llmcore.evaluation.harness import Harness, Told
from llmcore.evaluation.harness.asking import AskedModel
from llmcore.models.generation import Generator
from llmcore.report import gather
from llmcore.storage import Folder, publish, read_manifest
from llmcore.tasks.base import Reader
from llmcore.tasks.columns import KINDS
from llmcore.tasks.evaluation_set import write_evaluation_set
from llmcore.tasks.framing import framing_tokenizer
from llmcore.tasks.text_generation import TextGeneration
from tests.judged import OPTIONS, InProcess, World, write_classifier
from tests.unit.test_evaluation_harness import REPORT
from tests.writers import write_writer

ROWS = [
    {"id": f"r{n}", "group": f"g{n}", "prompt": f"{words} {n}:", "completion": f" {words.split()[n % 2]} {n}"}
    for n, words in enumerate(["open close path", "join strip upper", "epoch clock zone", "read write seek"] * 3)
]
LIKELIHOOD = """
task: own_likelihood
dataset_path: json
dataset_kwargs: {data_files: {test: data/rows.jsonl}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{prompt}}"
doc_to_target: "{{completion}}<|endoftext|>"
target_delimiter: ""
metric_list: [{metric: perplexity}, {metric: acc}]
metadata: {version: 2.5}
"""
CHOICE = """
task: own_choice
dataset_path: json
dataset_kwargs: {data_files: {test: data/rows.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{prompt}}"
doc_to_choice: "{{choices}}"
doc_to_target: label
target_delimiter: ""
metric_list: [{metric: acc}]
"""
CHOICES = [" path", " upper", " zone"]
needs_harness = pytest.mark.skipif(
    find_spec("lm_eval") is None, reason="lm-evaluation-harness (extra lm-eval) is not installed"
)


class Written:
    """A storage with a set of texts, a model that was fine-tuned on them, and one that was only pre-trained."""

    def __init__(self, path: Path) -> None:
        self.storage = Folder(str(path / "storage"))
        columns = KINDS["text_generation"].chosen(["prompt", "completion"])
        tables: Any = {
            split: [pa.Table.from_pylist(ROWS[first : first + 4], schema=columns.schema())]
            for split, first in (("train", 0), ("validation", 4), ("test", 8))
        }
        self.labelled = write_evaluation_set(self.storage, "texts", [], tables, columns=columns)
        task = TextGeneration(48, "perplexity", "{prompt}", 16)
        self.tuned = self._model("tuned", {"task": task.about(), "data": {"hash": self.labelled.hash}}, seed=1)
        self.base = self._model("base", {}, seed=2)
        self.tasks = path / "tasks"
        (self.tasks / "data").mkdir(parents=True)
        (self.tasks / "likelihood.yaml").write_text(LIKELIHOOD)
        (self.tasks / "choice.yaml").write_text(CHOICE)
        rows = [row | {"choices": CHOICES, "label": n % 3} for n, row in enumerate(ROWS[8:])]
        (self.tasks / "data" / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    def _model(self, name: str, about: dict[str, Any], seed: int) -> Folder:
        folder = self.storage / name
        with publish(folder, "model", about) as publication, publication.staging() as staged:
            write_writer(staged, "gpt2", seed=seed)
        return folder

    def config(self, name: str = "judged", **asked: Any) -> EvaluateConfig:
        harness = {"tasks": ["own_likelihood", "own_choice"], "include_path": str(self.tasks)} | asked
        return EvaluateConfig.model_validate(
            {
                "name": name,
                "storage": self.storage.url,
                "models": {"mine": self.tuned.url},
                "data": self.labelled.folder.url,
                "baselines": [],
                "metrics": ["bits_per_byte"],
                "num_resamples": 100,
                "harness": harness,
            }
        )

    def evaluate(self, name: str = "judged", **asked: Any) -> dict[str, Any]:
        return evaluate(self.config(name, **asked), self.storage, OPTIONS)


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path)


class Answering(AskHarness):
    """Stands for the actors: all models say the same."""

    def _ask(self, pairs: Sequence[tuple[Writer, str]]) -> None:
        from llmcore.evaluation.harness import store_told

        for writer, task in pairs:
            store_told(self.storage, self.harness, task, writer.sha256, Told.of_report(REPORT))


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.runtime.judging, "AskHarness", Answering)
    monkeypatch.setattr(llmcore.evaluation.harness.asked, "installed_version", lambda: "0.4.13")
    monkeypatch.setattr(llmcore.evaluation.harness.asked, "_check_tasks", lambda _: None)


@pytest.mark.usefixtures("answering")
def test_what_the_harness_says_stands_beside_our_figures_and_chooses_nothing(
    written: Written, judge: type[InProcess], capsys: pytest.CaptureFixture[str]
) -> None:
    result = written.evaluate(tasks=["arc"], models={"untuned": "base"}, limit=20)
    folder = Path(written.storage.url) / "judged" / "evaluation"
    content = json.loads((folder / "metrics.json").read_text())["harness"]
    assert content == json.loads(json.dumps(result["harness"]))
    assert (content["version"], content["limit"]) == ("0.4.13", 20)
    assert set(content["models"]) == {"mine", "untuned"}
    assert content["models"]["untuned"]["arc"]["metrics"]["acc"] == {
        "value": 0.25,
        "stderr": 0.1,
        "higher_is_better": True,
    }
    with (folder / "leaderboard.csv").open() as file:
        [line] = csv.DictReader(file)
    assert (line["id"], line["harness_arc_acc"], line["harness_arc_acc_stderr"]) == ("mine", "0.25", "0.1")
    assert line["harness_arc_word_perplexity"] == "" and float(line["test_bits_per_byte"]) > 0
    assert (
        "mine by lm-evaluation-harness: arc acc 0.25 ± 0.1, arc exact_match,strict-match 0.5 ± ?"
        in capsys.readouterr().out
    )

    written.evaluate("tiny.evaluate", tasks=["arc"], limit=20)
    report = gather(written.storage, "tiny")
    lines = {(line.task, line.metric): line for line in report.evaluations[0].closer.harness}
    assert report.problems == () and lines["arc", "acc"].value == 0.25 and lines["arc", "word_perplexity"].value is None

    config = written.config(tasks=["arc"], models={"untuned": "base"}, limit=20)
    assert finished(config, written.storage) is not None
    (written.tasks / "more.yaml").write_text("task: more")
    assert finished(config, written.storage) is None, "the files of one's own are others"
    assert "Has lm-evaluation-harness ask all of them, and untuned, by arc" in plan(config)


def test_what_the_harness_cannot_ask_is_refused_before_a_model_is_judged(
    written: Written, world: World, judge: type[InProcess], monkeypatch: pytest.MonkeyPatch, request: Any
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(llmcore.evaluation.harness.asked, "find_spec", lambda _: None)
        with pytest.raises(ConfigError, match=r"install the extra, `pip install 'llmcore\[lm-eval\]'`, on every node"):
            written.evaluate("bare")
    assert not (written.storage / "bare").exists(), "no attempt has begun"

    request.getfixturevalue("answering")
    write_classifier(Path(written.storage.url) / "classes", 1)
    for name, (asked, said) in enumerate(
        {
            "gone": (r"harness\.models\.more='gone': there is no complete model at"),
            "classes": (r"harness\.models\.more='classes' is a GPT2ForSequenceClassification, which writes no text"),
        }.items()
    ):
        with pytest.raises(ConfigError, match=said):
            written.evaluate(f"refused{name}", models={"more": asked})
    world.finetuned("run1", 1)
    with pytest.raises(ConfigError, match="first, a text_classification model, has a head instead"):
        world.evaluate(searches=[], models={"first": "run1"}, harness={"tasks": ["arc"]})
    assert not judge.scored


@needs_harness
@pytest.mark.usefixtures("ray_session")
def test_the_harness_finds_a_text_as_likely_as_we_do_and_is_asked_once(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = written.evaluate(models={"untuned": "base"})
    said = result["harness"]["models"]
    mine = said["mine"]["own_likelihood"]
    assert (mine["version"], mine["num_fewshot"], mine["num_rows"]) == (2.5, 0, 4)
    table = pq.read_table(f"{written.storage.url}/judged/evaluation/predictions.parquet")
    losses = [row["loss_sum"] for row in table.to_pylist() if row["split"] == "test"]
    assert mine["metrics"]["perplexity"]["value"] == pytest.approx(np.exp(np.mean(losses)), rel=1e-5)
    assert mine["metrics"]["perplexity"]["stderr"] > 0

    for name, folder in (("mine", written.tuned), ("untuned", written.base)):
        generator = Generator.load(folder.as_local())
        right = []
        for number, row in enumerate(ROWS[8:]):
            prompts = generator.encode([str(row["prompt"])] * 3)
            answers = [generator.encode([choice])[0] for choice in CHOICES]
            scored = [loss for loss, _ in generator.score(prompts, answers, batch_tokens=512)]
            right.append(int(np.argmin(scored)) == number % 3)
        accuracy = said[name]["own_choice"]["metrics"]["acc"]
        assert accuracy["value"] == pytest.approx(np.mean(right)) and accuracy["higher_is_better"]

    monkeypatch.setattr(AskHarness, "_ask", lambda *_: pytest.fail("it was asked again"))
    assert written.evaluate("again", models={"untuned": "base"})["harness"] == result["harness"]
    assert Harness.of(written.config().harness, 100).version == result["harness"]["version"]  # type: ignore[arg-type]


@needs_harness
def test_an_encoder_decoder_is_asked_by_its_encoder(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISABLE_MULTIPROC", "1")  # as its actors are told: no process for each CPU
    folder = written.storage / "bart"
    with publish(folder, "model", {}) as publication, publication.staging() as staged:
        write_writer(staged, "bart")
        framing_tokenizer(Reader.of(staged)).save_pretrained(staged)
    manifest, asked = read_manifest(folder), written.config().harness
    assert manifest is not None and asked is not None
    harness = Harness.of(asked, 100)
    told = AskedModel.load(folder, manifest.sha256, harness).ask(harness, "own_likelihood")
    generator = Generator.load(folder.as_local())
    prompts = generator.encode([str(row["prompt"]) for row in ROWS[8:]])
    assert all(prompt[-1] == generator.tokenizer.eos_token_id for prompt in prompts)
    texts = [f"{row['completion']}<|endoftext|>" for row in ROWS[8:]]
    answers = generator.tokenizer(texts, add_special_tokens=False)["input_ids"]
    losses = [loss for loss, _ in generator.score(prompts, answers)]
    likelihood = told.tasks["own_likelihood"]["metrics"]["perplexity"]["value"]
    assert likelihood == pytest.approx(np.exp(np.mean(losses)), rel=1e-4)


@needs_harness
@pytest.mark.usefixtures("ray_session")
def test_a_task_that_fails_is_named_with_the_model_and_what_it_said(written: Written) -> None:
    (written.tasks / "data" / "rows.jsonl").unlink()
    with pytest.raises(RunError, match=r"mine: harness task 'own_choice': FileNotFoundError"):
        written.evaluate(tasks=["own_choice"])
