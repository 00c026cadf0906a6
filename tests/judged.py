"""A storage with a labelled set, tiny random classifiers, and what a search or a fine-tuning leaves of them."""

import shutil
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoModelForSequenceClassification, GPT2Config, PreTrainedTokenizerFast

from jobs.evaluate import evaluate
from jobs.promote import promote
from jobs.runtime.options import RunOptions
from jobs.runtime.scorers import Evaluator
from llmcore.config.evaluate import EvaluateConfig
from llmcore.config.finetune import FinetuneConfig
from llmcore.config.promote import PromoteConfig
from llmcore.config.tune import TuneConfig
from llmcore.evaluation.register import looks
from llmcore.evaluation.results import Evaluation, evaluate_once
from llmcore.evaluation.score import Predictions, Scorer
from llmcore.storage import Folder, publish, read_manifest
from llmcore.tasks.evaluation_set import EvaluationSet, write_evaluation_set
from llmcore.tasks.text_classification import TextClassification

__all__ = ["OPTIONS", "TASK", "WORDS", "InProcess", "World", "damage", "four_trials", "write_classifier"]

TASK = TextClassification(16, "macro_f1", ("files", "text", "time"))
OPTIONS = RunOptions()
WORDS = ["open close path", "join strip upper", "epoch clock zone"]


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=280, special_tokens=["<eos>", "<pad>"], initial_alphabet=alphabet)
    bpe.train_from_iterator(WORDS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<eos>", pad_token="<pad>")


def write_classifier(path: Path, seed: int) -> None:
    """Publish a random classifier."""
    ids = {"eos_token_id": tokenizer().eos_token_id, "pad_token_id": tokenizer().pad_token_id}
    sizes = {"vocab_size": len(tokenizer()), "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 2}
    names = {"num_labels": 3, "id2label": dict(enumerate(TASK.label_names))}
    torch.manual_seed(seed)
    # Weights this large make each seed predict other classes.
    model = AutoModelForSequenceClassification.from_config(GPT2Config(initializer_range=0.5, **sizes, **names, **ids))
    about = {"task": TASK.about(), "step": 10 * seed}
    with publish(Folder(str(path)), "model", about) as publication, publication.staging() as staged:
        model.save_pretrained(staged)
        tokenizer().save_pretrained(staged)


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
        self.search.write_json("run.json", {"kind": "tune", "fingerprint": "f" * 64, "parents": []})

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

    def finetuned(self, name: str, seed: int, **changes: Any) -> str:
        """A finished fine-tuning run; the hash of its model."""
        config = FinetuneConfig.model_validate(
            {
                "name": name,
                "base": "base",
                "data": self.labelled.folder.url,
                "task": {"max_tokens": 16},
                "train": {"num_epochs": 2.0, "seed": seed},
            }
            | changes
        )
        run = self.storage / name
        run.write_text("config.yaml", yaml.safe_dump(config.model_dump(mode="json")))
        run.write_json("run.json", {"kind": "finetune", "inputs": {"data": self.labelled.hash}})
        sha256 = self.model(run / "model", seed)
        result = {"model": f"{name}/model", "model_sha256": sha256}
        (run / "attempts" / "01").write_json("end.json", {"status": "succeeded", "result": result})
        return sha256

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

    def promote(self, evaluation: str, name: str, **gate: Any) -> dict[str, Any]:
        config = PromoteConfig(name=name, storage=self.storage.url, evaluation=evaluation, **gate)
        return promote(config, self.storage)

    def metrics(self) -> dict[str, Any]:
        content: dict[str, Any] = (self.storage / "judged" / "evaluation").read_json("metrics.json")
        return content

    def looks(self) -> int:
        return len(looks(self.storage, self.labelled.split_hash("test")))


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
