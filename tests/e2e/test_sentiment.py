"""`make proof TOPIC=sentiment`: SST-2 from a real encoder, against a plain transformers loop on the same rows."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import fmean
from typing import Any

import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

from llmcore.records import newest_result
from llmcore.tasks.evaluation_set import EvaluationSet
from tests.shared_data import DATA, needs_data, needs_encoder, real_encoder
from tests.workshop import Workshop

FILES = {"data.train": DATA / "sst2/train.tsv", "data.test": DATA / "sst2/dev.tsv"}

pytestmark = [
    pytest.mark.proof,
    pytest.mark.proof_sentiment,
    pytest.mark.timeout(3600),
    needs_data,
    needs_encoder,
]

SEEDS = (0, 1, 2)
NUM_EPOCHS, BATCH, MAX_TOKENS, LEARNING_RATE = 3, 32, 64, 5e-5
LORA = {"method.name": "lora", "method.rank": 16, "method.alpha": 32, "train.optimizer.learning_rate": 1e-3}
LORA |= {"train.optimizer.head_learning_rate_factor": 1}
WITHIN_S = 8 * 60


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("sentiment"))


@pytest.fixture(scope="module")
def full(workshop: Workshop) -> list[float]:
    """Accuracies on the test split, a seed each, of the shipped configuration."""
    return [_test_accuracy(workshop, f"full-{seed}", **{"train.seed": seed}) for seed in SEEDS]


def test_as_good_as_a_plain_loop(workshop: Workshop, full: list[float]) -> None:
    labelled = workshop.labelled("full-0.judged")
    with _all_cores():
        plain = [_plain_accuracy(labelled, seed) for seed in SEEDS]
    print(f"full: {full}, plain: {plain}")
    assert fmean(full) >= fmean(plain) - 0.01
    assert workshop.seconds["full-0"] + workshop.seconds["full-0.judged"] <= WITHIN_S


def test_random_weights_stand_beside_it(workshop: Workshop, full: list[float]) -> None:
    content = _judge(workshop, "beside", "full-0", ["majority", "random_weights"])
    difference = content["differences"]["chosen - random_weights"]["accuracy"]
    print(f"full - random weights: {difference}")
    assert difference["low"] > 0


def test_lora_is_nearly_as_good(workshop: Workshop, full: list[float]) -> None:
    lora = [_test_accuracy(workshop, f"lora-{seed}", **LORA, **{"train.seed": seed}) for seed in SEEDS]
    print(f"lora: {lora}, full: {full}")
    assert fmean(lora) >= fmean(full) - 0.015
    result = newest_result(workshop.storage / "lora-0")
    assert result is not None
    assert result["num_trained_parameters"] <= 0.05 * result["num_parameters"]


def _test_accuracy(workshop: Workshop, name: str, **changes: Any) -> float:
    """Fine-tunes, then evaluates: a model that is judged alone is the chosen one, whose test split is opened."""
    workshop.run_shipped("finetune", name, "finetune/sst2.yaml", base=real_encoder(), **FILES, **changes)
    content = _judge(workshop, f"{name}.judged", name, ["majority"])
    return float(content["models"][0]["test"]["accuracy"]["value"])


def _judge(workshop: Workshop, name: str, model: str, baselines: list[str]) -> dict[str, Any]:
    workshop.run("evaluate", name, {"models": {"model": model}, "choose_by": "accuracy", "baselines": baselines})
    return workshop.judged(name)


@contextmanager
def _all_cores() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(before)


def _plain_accuracy(labelled: EvaluationSet, seed: int) -> float:
    """Accuracy on the test split after the usual loop: shuffled, padded batches, AdamW, a linear schedule."""
    tokenizer = AutoTokenizer.from_pretrained(real_encoder())
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(real_encoder(), num_labels=2)
    train = labelled.rows("train")
    num_steps = NUM_EPOCHS * -(-len(train) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = get_linear_schedule_with_warmup(optimizer, num_steps // 10, num_steps)
    model.train()
    for _ in range(NUM_EPOCHS):
        for rows in _batches(train.take(torch.randperm(len(train)).numpy())):
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(**_read(tokenizer, rows), labels=torch.tensor(rows["label"].to_pylist())).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    model.eval()
    test, hits = labelled.rows("test"), 0
    with torch.inference_mode():
        for rows in _batches(test):
            told = model(**_read(tokenizer, rows)).logits.argmax(-1)
            hits += int((told == torch.tensor(rows["label"].to_pylist())).sum())
    return hits / len(test)


def _batches(rows: pa.Table) -> Iterator[pa.Table]:
    return (rows.slice(first, BATCH) for first in range(0, len(rows), BATCH))


def _read(tokenizer: Any, rows: pa.Table) -> Any:
    return tokenizer(
        rows["text"].to_pylist(), truncation=True, max_length=MAX_TOKENS, padding=True, return_tensors="pt"
    )
