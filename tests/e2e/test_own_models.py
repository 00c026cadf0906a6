"""`make proof TOPIC=bert`, `TOPIC=gpt`: the three stages, from books to a judged classifier, with a model made here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.shared_data import DATA, needs_data, write_chapters
from tests.workshop import Workshop

pytestmark = [pytest.mark.proof, pytest.mark.timeout(3600), needs_data]

WITHIN_S = 40 * 60
"""Of two cores, for a pre-training."""
SIZE = (9e6, 12e6)
NEWS = {"1": "World", "2": "Sports", "3": "Business", "4": "Sci/Tech"}
ON_CPU: tuple[dict[str, Any], dict[str, Any]] = (
    {"num_steps": 3200, "global_batch_size": 16, "micro_batch_size": 8, "optimizer": {"learning_rate": 6e-4}},
    {"num_workers": 2},
)
"""Training and workers of the BERT: 5.5 M tokens, in 40 minutes of two cores.

What it attends to begins to form only then: at 11 M tokens in large steps, on a GPU, the loss falls by two nats.
"""
ON_GPU: tuple[dict[str, Any], dict[str, Any]] = (
    {"num_steps": 2500, "global_batch_size": 256, "micro_batch_size": 256, "optimizer": {"learning_rate": 8e-4}},
    {"num_workers": 1},
)
"""The same: 68 M tokens, in two minutes of one."""
SETS: dict[str, dict[str, Any]] = {
    "sst2": {
        "train": str(DATA / "sst2/train.tsv"),
        "test": str(DATA / "sst2/dev.tsv"),
        "header": ["text", "label"],
        "label_names": {"0": "negative", "1": "positive"},
        "allow_duplicates": True,  # one sentence stands in both
    },
    "ag_news": {
        "train": str(DATA / "ag_news/train.csv"),
        "test": str(DATA / "ag_news/dev.csv"),
        "label_names": NEWS,
        "allow_duplicates": True,
    },
}
FINETUNING = {
    "num_epochs": 3,
    "global_batch_size": 32,
    "micro_batch_size": 32,
    "optimizer": {"learning_rate": 3e-4, "head_learning_rate_factor": 3},
    "schedule": {"kind": "linear", "warmup_fraction": 0.1, "final_fraction": 0.0},
    "zero_stage": 1,
    "validate_every": 150,
}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("own"))


def _prepare(workshop: Workshop, texts: Path, tokenizer: Mapping[str, Any], packing: Mapping[str, Any]) -> None:
    source = {"name": "books", "url": str(write_chapters(texts))}
    settings = {"sources": [source], "splits": {"validation": 0.02, "test": 0}}
    about = {"tokenizer": {"sample_bytes": 8_000_000} | dict(tokenizer), "packing": dict(packing)}
    workshop.run("prepare", "books", settings | about)


def _pretrain(workshop: Workshop, name: str, train: Mapping[str, Any], **settings: Any) -> dict[str, Any]:
    common = {"zero_stage": 1, "compile": True, "log_every": 20}
    result = workshop.run("pretrain", name, {"tokens": "books", "train": common | dict(train)} | settings)
    assert SIZE[0] < result["num_parameters"] < SIZE[1]
    assert workshop.seconds[name] <= WITHIN_S
    return result


def _gain(workshop: Workshop, base: str, name: str) -> dict[str, float]:
    """Accuracy on a set's test split above that of the same architecture trained as long from random weights."""
    task = {"kind": "text_classification", "max_tokens": 128, "validation_metric": "accuracy"}
    data = {"name": name} | SETS[name]
    workshop.run("finetune", f"{base}.{name}", {"base": base, "data": data, "task": task, "train": FINETUNING})
    settings = {"models": {base: f"{base}.{name}"}, "choose_by": "accuracy"}
    workshop.run("evaluate", f"{base}.{name}.judged", settings)
    content = workshop.judged(f"{base}.{name}.judged")
    accuracy, gain = content["models"][0]["test"]["accuracy"], content["differences"]["chosen - random_weights"]
    print(f"{base} on {name}: {accuracy}, above random weights by {gain['accuracy']}")
    return dict(gain["accuracy"])


@pytest.fixture(scope="module")
def bert(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The result of its pre-training."""
    tokenizer = {"algorithm": "wordpiece", "vocab_size": 1024, "begin_documents": True}
    _prepare(workshop, tmp_path_factory.mktemp("texts"), tokenizer, {"sequence_length": 128, "sentence_pairs": True})
    # Six thinner layers diverged at 1e-3: BERT's normalize after each sum.
    sizes = {"hidden_size": 512, "num_hidden_layers": 3, "num_attention_heads": 8, "intermediate_size": 2048}
    train, workers = ON_GPU if torch.cuda.is_available() else ON_CPU
    settings = {"objective": "masked_lm", "next_sentence": True, "masking": {"share": 0.2}, "workers": workers}
    return _pretrain(workshop, "bert", train, model={"family": "bert", "sizes": sizes}, **settings)


@pytest.mark.proof_bert
def test_a_bert_of_books_guesses_masks_and_tells_pairs(bert: dict[str, Any]) -> None:
    """Met on a GPU, on 2026-11-26; of two cores 40 minutes are too few for the masks: `docs/measurements.md`."""
    names = ("num_parameters", "tokens_seen", "validation_accuracy", "unigram_accuracy")
    print({name: bert[name] for name in (*names, "validation_next_sentence_accuracy")})
    assert bert["validation_accuracy"] >= 5 * bert["unigram_accuracy"]
    assert bert["validation_next_sentence_accuracy"] >= 0.6


@pytest.mark.proof_bert
@pytest.mark.parametrize("name", SETS)
@pytest.mark.usefixtures("bert")
def test_a_bert_of_books_classifies(workshop: Workshop, name: str) -> None:
    """Not met on two cores, on 2026-11-26: `docs/measurements.md` says why."""
    assert _gain(workshop, "bert", name)["low"] > 0


@pytest.fixture(scope="module")
def gpt(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The result of its pre-training."""
    _prepare(workshop, tmp_path_factory.mktemp("texts"), {"vocab_size": 4096}, {"sequence_length": 256})
    sizes = {"n_embd": 320, "n_layer": 7, "n_head": 5}
    train = {"num_steps": 1500, "global_batch_size": 16, "micro_batch_size": 8, "optimizer": {"learning_rate": 1e-3}}
    return _pretrain(workshop, "gpt", train, model={"family": "gpt2", "sizes": sizes})


@pytest.mark.proof_gpt
@pytest.mark.parametrize("name", SETS)
@pytest.mark.usefixtures("gpt")
def test_a_gpt_of_books_classifies(workshop: Workshop, name: str) -> None:
    assert _gain(workshop, "gpt", name)["low"] > 0
