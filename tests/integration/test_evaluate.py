"""The shared evaluation job: judges trials as they land, chooses on validation, looks at the test split once."""

import json
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoModelForSequenceClassification, GPT2Config, PreTrainedTokenizerFast

import jobs.runtime.judging
from jobs.evaluate import evaluate, finished, result_line
from jobs.runtime.options import RunOptions
from jobs.runtime.scorers import Evaluator
from llmcore.config.evaluate import EvaluateConfig
from llmcore.config.finetune import FinetuneConfig
from llmcore.config.tune import TuneConfig
from llmcore.errors import CheckpointError, ConfigError, InterruptedRunError, RunError
from llmcore.evaluation.register import looks
from llmcore.evaluation.results import Evaluation, evaluate_once
from llmcore.evaluation.score import Predictions, Scorer
from llmcore.storage import Folder, publish, read_manifest
from llmcore.tasks.evaluation_set import EvaluationSet, write_evaluation_set
from llmcore.tasks.text_classification import TextClassification

TASK = TextClassification(16, "macro_f1", ("files", "text", "time"))
OPTIONS = RunOptions()
WORDS = ["open close path", "join strip upper", "epoch clock zone"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=280, special_tokens=["<eos>", "<pad>"], initial_alphabet=alphabet)
    bpe.train_from_iterator(WORDS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<eos>", pad_token="<pad>")


@pytest.fixture(scope="module")
def classifiers(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Published random classifiers by seed, each made once."""

    @cache
    def made(seed: int) -> Path:
        ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        sizes = {"vocab_size": len(tokenizer), "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 2}
        names = {"num_labels": 3, "id2label": dict(enumerate(TASK.label_names))}
        torch.manual_seed(seed)
        # Weights this large make each seed predict other classes.
        model = AutoModelForSequenceClassification.from_config(
            GPT2Config(initializer_range=0.5, **sizes, **names, **ids)
        )
        path = tmp_path_factory.mktemp("classifier")
        with (
            publish(Folder(str(path)), "model", {"task": TASK.about()}) as publication,
            publication.staging() as staged,
        ):
            model.save_pretrained(staged)
            tokenizer.save_pretrained(staged)
        return path

    return made


class World:
    """A storage with a labelled set, a search whose records are written by hand, and tiny random models."""

    def __init__(self, path: Path, classifiers: Callable[[int], Path]) -> None:
        self.storage = Folder(str(path))
        self.models = classifiers
        sizes = {"train": 12, "validation": 18, "test": 24}
        tables = {split: [self._rows(split, num_rows)] for split, num_rows in sizes.items()}
        self.labelled: EvaluationSet = write_evaluation_set(self.storage, "areas", TASK.label_names, tables)  # type: ignore[arg-type]
        self.search = self.storage / "search"
        self.twins: list[FinetuneConfig] = []

    @staticmethod
    def _rows(split: str, num_rows: int) -> pa.Table:
        labels = [row % 3 for row in range(num_rows)]
        return pa.table(
            {
                "id": [f"{split}{row}" for row in range(num_rows)],
                "text": [f"{WORDS[label]} {split} {row}" for row, label in enumerate(labels)],
                "label": pa.array(labels, pa.int32()),
                "group": [f"{split}{row // 3}" for row in range(num_rows)],
            }
        )

    def model(self, folder: Folder, seed: int) -> str:
        """Publish the random classifier of a seed; the hash of its manifest."""
        shutil.copytree(self.models(seed), folder.url, dirs_exist_ok=True)
        manifest = read_manifest(folder)
        assert manifest is not None
        return manifest.sha256

    def begin_search(self) -> None:
        tune = TuneConfig.model_validate(
            {
                "name": "search",
                "base": "base",
                "data": self.labelled.folder.url,
                "finetune": {"task": {"max_tokens": 16}, "train": {"num_epochs": 3.0}},
                "space": {"train.optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2]}},
            }
        )
        self.search.write_text("config.yaml", yaml.safe_dump(tune.model_dump(mode="json")))
        self.search.write_json("run.json", {"kind": "tune"})

    def trial(self, name: str, status: str = "finished", **record: Any) -> None:
        """Write a trial's record, with a model unless `model=None` is given."""
        number = int(name.removeprefix("t"))
        path = f"search/trials/{name}/exports/step-{10 * number:08d}-attempt-01"
        whole = {
            "id": name,
            "status": status,
            "config": {"train.optimizer.learning_rate": 1e-4 * number},
            "reports": [],
            "model": path,
            "model_sha256": None,
            "error": None,
            "seconds": 1.0,
            "num_steps": 10 * number,
            "seed": number,
        } | record
        if whole["model"] is not None:
            whole["model_sha256"] = self.model(self.storage / path, number)
        (self.search / "trials" / name).write_json("trial.json", whole)

    def close_search(self, *trials: str) -> None:
        self.search.write_json("search.json", {"closed": True, "num_trials": len(trials), "trials": list(trials)})

    def finetune(self, config: FinetuneConfig, storage: Folder, options: RunOptions) -> Mapping[str, Any]:
        """Stands for the fine-tuning job: a run found done when it is started again."""
        self.twins.append(config)
        model = self.storage / config.name / "model"
        manifest = read_manifest(model)
        sha256 = self.model(model, 99) if manifest is None else manifest.sha256
        return {"model": f"{config.name}/model", "model_sha256": sha256, "num_steps": config.train.stop_after}

    def config(self, **changes: Any) -> EvaluateConfig:
        base = {"name": "judged", "storage": self.storage.url, "searches": ["search"], "num_resamples": 100}
        return EvaluateConfig.model_validate(base | {"poll_s": 0.01} | changes)

    def evaluate(self, **changes: Any) -> dict[str, Any]:
        return evaluate(self.config(**changes), self.storage, OPTIONS, finetune=self.finetune)

    def metrics(self) -> dict[str, Any]:
        content: dict[str, Any] = (self.storage / "judged" / "evaluation").read_json("metrics.json")
        return content

    def looks(self) -> int:
        return len(looks(self.storage, self.labelled.split_hash("test")))


@pytest.fixture
def world(tmp_path: Path, classifiers: Callable[[int], Path]) -> World:
    return World(tmp_path, classifiers)


class InProcess(Evaluator):
    """Judges without an actor; says what it judged, and may be told to die."""

    scored: Counter[str]
    heard: dict[str, threading.Event]
    die_after: float

    def evaluation(self, name: str, split: Any, folder: Folder, sha256: str) -> Evaluation:
        def predict(rows: Any) -> Predictions:
            if sum(self.scored.values()) >= self.die_after:
                raise KeyboardInterrupt
            self.scored[f"{name} {split}"] += 1
            return Scorer.load(folder, sha256=sha256, suite=self.suite).predict(rows, batch_tokens=self.batch_tokens)

        result = evaluate_once(
            self.storage, self.evaluation_set, self.suite, split, model_sha256=sha256, predict=predict, who=self.who
        )
        self.heard.setdefault(f"{name} {split}", threading.Event()).set()
        return result


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> type[InProcess]:
    InProcess.scored, InProcess.heard, InProcess.die_after = Counter(), {}, float("inf")
    monkeypatch.setattr(jobs.runtime.judging, "Evaluator", InProcess)
    return InProcess


def damage(world: World, model: str) -> None:
    """Flip one bit of a trial's weights."""
    path = Path(world.search.url) / "trials" / model / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def four_trials(world: World) -> None:
    world.begin_search()
    for number in (1, 2):
        world.trial(f"t{number}")
    world.trial("t3", "stopped")
    world.trial("t4", "failed", model=None, error="rank 1 died\nof memory")
    world.close_search("t1", "t2", "t3", "t4")


EXPECTED = Counter({f"trial t{number} validation": 1 for number in (1, 2, 3)} | {"the random-weights baseline test": 1})


def test_all_trials_are_judged_and_the_test_split_is_opened_for_few(world: World, judge: type[InProcess]) -> None:
    four_trials(world)
    result = world.evaluate(follow=True)
    content = world.metrics()
    chosen = content["chosen"]
    assert judge.scored == EXPECTED | {f"trial {chosen} test": 1}
    assert world.looks() == content["register_looks"] == 3

    validation = {model["id"]: model["validation"] for model in content["models"]}
    assert validation["t4"] is None and set(validation) == {"t1", "t2", "t3", "t4"}
    best = max(("t1", "t2", "t3"), key=lambda one: validation[one]["macro_f1"]["value"])
    assert chosen == best
    assert [model["id"] for model in content["models"] if model["test"] is not None] == [chosen]
    assert next(model["error"] for model in content["models"] if model["id"] == "t4") == "rank 1 died\nof memory"
    assert set(content["differences"]) == {"chosen - majority", "chosen - random_weights"}
    assert content["baselines"]["majority"]["majority_of"] == "train"
    assert (result["num_models"], result["num_failed"]) == (4, 1)
    assert f"trial {chosen} has test macro_f1" in result_line(result)

    details = content["details"]
    assert set(details) == {chosen, "majority", "random_weights"}
    by_label = details[chosen]["slices"]["label"]
    assert {name: part["num_rows"] for name, part in by_label.items()} == {"files": 8, "text": 8, "time": 8}
    accuracy = [part["metrics"]["accuracy"]["value"] for part in by_label.values()]
    test = next(model["test"] for model in content["models"] if model["id"] == chosen)
    assert sum(accuracy) / 3 == pytest.approx(test["accuracy"]["value"])
    assert sum(count for *_, count in details[chosen]["figures"]["confusion"]) == 24

    folder = Path(world.storage.url) / "judged" / "evaluation"
    predictions = pq.read_table(folder / "predictions.parquet")
    counts = Counter(zip(predictions["model"].to_pylist(), predictions["split"].to_pylist(), strict=True))
    on_test = {(name, "test"): 24 for name in (chosen, "majority", "random_weights")}
    assert counts == {(f"t{number}", "validation"): 18 for number in (1, 2, 3)} | on_test
    assert len((folder / "leaderboard.csv").read_text().splitlines()) == 5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"metrics": ["bleu"]},
            "evaluation set 'areas': 'bleu' is no metric of text_classification: there are accuracy",
        ),
        ({"choose_by": "f1_by_class"}, "f1_by_class is one number a class"),
        ({"metrics": ["example_roc_auc"]}, "example_roc_auc is defined for several labels a row"),
        (
            {"baselines": ["lead_3"]},
            "'lead_3' is no baseline of text_classification: there is majority, random_weights",
        ),
    ],
)
def test_what_is_not_of_the_task_is_refused_before_a_model_is_judged(
    world: World, judge: type[InProcess], given: dict[str, Any], said: str
) -> None:
    four_trials(world)
    with pytest.raises(ConfigError, match=said):
        world.evaluate(**given)
    assert not judge.scored and world.looks() == 0


def test_the_twin_has_the_chosen_trials_settings_seed_and_step(world: World, judge: type[InProcess]) -> None:
    four_trials(world)
    world.evaluate()
    content = world.metrics()
    number = int(content["chosen"].removeprefix("t"))
    (twin,) = world.twins
    assert (twin.name, twin.weights, twin.base) == ("judged.random-weights", "random", "base")
    assert twin.train.seed == number
    assert twin.train.optimizer.learning_rate == pytest.approx(1e-4 * number)
    assert (twin.train.num_epochs, twin.train.stop_after) == (3, 10 * number)
    baseline = content["baselines"]["random_weights"]
    assert baseline["num_steps"] == baseline["chosen_num_steps"] == 10 * number


@pytest.mark.parametrize("die_after", range(5))
def test_whatever_is_killed_nothing_is_judged_twice_and_no_look_is_counted_twice(
    world: World, judge: type[InProcess], die_after: int
) -> None:
    four_trials(world)
    judge.die_after = die_after
    with pytest.raises(KeyboardInterrupt):
        world.evaluate()
    judge.die_after = float("inf")
    world.evaluate()
    assert judge.scored == EXPECTED | {f"trial {world.metrics()['chosen']} test": 1}
    assert world.looks() == 3


def test_the_same_command_again_finds_the_work_done(world: World, judge: type[InProcess]) -> None:
    four_trials(world)
    first = world.evaluate()
    assert finished(world.config(), world.storage) == json.loads(json.dumps(first))
    world.evaluate()
    assert (len(world.twins), len((world.storage / "judged" / "attempts").names())) == (1, 1)

    world.trial("t5")
    world.close_search("t1", "t2", "t3", "t4", "t5")
    again = world.evaluate()
    assert again["num_models"] == 5
    assert judge.scored["trial t5 validation"] == 1
    assert max(judge.scored.values()) == 1


def test_trials_are_judged_as_they_land_until_the_search_is_closed(world: World, judge: type[InProcess]) -> None:
    names = [f"trial t{number} validation" for number in (1, 2)]
    judge.heard |= {name: threading.Event() for name in names}
    outcome: dict[str, Any] = {}
    thread = threading.Thread(target=lambda: outcome.update(world.evaluate(follow=True)))
    thread.start()
    world.begin_search()
    world.trial("t1")
    assert judge.heard[names[0]].wait(20)
    (world.search / "trials" / "t2").write_text("trial.json", '{"id": "t2", "status": "fin')
    world.trial("t3", "running")
    assert not judge.heard[names[1]].is_set()
    world.trial("t2")
    assert judge.heard[names[1]].wait(20)
    assert thread.is_alive() and world.looks() == 0
    world.close_search("t1", "t2", "t3")
    thread.join(20)
    assert outcome["num_models"] == 3
    lost = next(model for model in world.metrics()["models"] if model["id"] == "t3")
    assert lost["status"] == "failed" and "says of no end" in lost["error"]


def test_waiting_ends_when_it_is_told_to(world: World, judge: type[InProcess]) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedRunError, match="told to stop"):
        evaluate(world.config(follow=True), world.storage, OPTIONS, finetune=world.finetune, stop=stop)
    end = (world.storage / "judged" / "attempts" / "01").read_json("end.json")
    assert end["status"] == "interrupted"


def test_when_all_trials_failed_they_are_named(world: World, judge: type[InProcess]) -> None:
    world.begin_search()
    world.trial("t1", "failed", model=None, error="out of memory")
    world.trial("t2", "failed", error="non-finite loss at step 7")
    world.close_search("t1", "t2")
    with pytest.raises(RunError, match=r"none of 2 trials.*t1: out of memory; t2: non-finite loss at step 7"):
        world.evaluate()
    assert world.looks() == 0


def test_what_is_not_there_or_does_not_belong_together_is_said(world: World, judge: type[InProcess]) -> None:
    with pytest.raises(ConfigError, match=r"no `tune` run at .*/search"):
        world.evaluate()
    four_trials(world)
    other = {"train": [world.labelled.rows("train")], "validation": [world.labelled.rows("test")]}
    another = write_evaluation_set(world.storage, "other", TASK.label_names, other)  # type: ignore[arg-type]
    search = world.storage / "search2"
    search.write_json("run.json", {"kind": "tune"})
    config = world.search.read_text("config.yaml").replace(world.labelled.hash, another.hash)
    search.write_text("config.yaml", config)
    with pytest.raises(ConfigError, match="different labelled sets"):
        world.evaluate(name="two", searches=["search", "search2"])


def test_an_altered_model_is_named(world: World, judge: type[InProcess]) -> None:
    four_trials(world)
    damage(world, "t2/exports/step-00000020-attempt-01")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        world.evaluate()


@pytest.mark.usefixtures("ray_session")
def test_the_scoring_process_gives_the_same_results_and_names_a_broken_model(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    four_trials(world)
    result = world.evaluate()
    cost = (world.storage / "judged" / "attempts" / "01").read_json("cost.json")
    assert cost["seconds"]["validation"] > 0 and cost["start_up_parts"]["imports"] > 0

    monkeypatch.setattr(jobs.runtime.judging, "Evaluator", InProcess)
    InProcess.scored, InProcess.heard, InProcess.die_after = Counter(), {}, float("inf")
    (world.storage / "artifacts").delete("evaluations")
    again = world.evaluate(name="again")
    assert (again["chosen"], again["test"]) == (result["chosen"], result["test"])
    assert again["register_looks"] == 3  # the same models, by the same suite

    monkeypatch.undo()
    world.trial("t5")
    damage(world, "t5/exports/step-00000050-attempt-01")
    world.close_search("t1", "t2", "t3", "t4", "t5")
    with pytest.raises(CheckpointError, match=r"trial t5: .*model\.safetensors"):
        world.evaluate(name="broken")
