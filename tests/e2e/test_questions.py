"""`make proof TOPIC=questions`: SQuAD's format, from a real encoder: Wikipedia's articles and long papers, held out."""

import re
import string
from collections import Counter
from statistics import fmean
from typing import Any

import pytest

from llmcore.records import newest_result
from tests.shared_data import DATA, needs_data, needs_encoder, real_encoder
from tests.workshop import Workshop

pytestmark = [
    pytest.mark.proof,
    pytest.mark.proof_questions,
    pytest.mark.timeout(3600),
    needs_data,
    needs_encoder,
]

NUM_DIRTY = 234
FILES = [str(DATA / "xquad/xquad.en.json"), str(DATA / "covidqa_squad/200423_covidQA.json.gz")]
# The papers are as long as thirty windows: one without the answer stands for them.
TASK: dict[str, Any] = {"task.answerless_windows": 1, "method": {"name": "full"}, "train.num_epochs": 2}
OPTIMIZER = {"train.optimizer": {"learning_rate": 1e-4, "head_learning_rate_factor": 5, "weight_decay": 0.01}}


def test_a_real_encoder_beats_its_twin_from_random_weights(tmp_path_factory: pytest.TempPathFactory) -> None:
    workshop = Workshop(tmp_path_factory.mktemp("questions"))
    data = {"data": {"name": "questions", "train": FILES}}
    workshop.run_shipped("finetune", "reader", "finetune/squad.yaml", base=real_encoder(), **data, **TASK, **OPTIMIZER)
    result = newest_result(workshop.storage / "reader")
    assert result is not None
    reading = result["data"]["reading"]
    assert sum(counts.get("answers_repaired", 0) for counts in reading.values()) == NUM_DIRTY

    judging = {"metrics": ["squad_f1", "squad_exact_match"], "choose_by": "squad_f1", "baselines": ["random_weights"]}
    workshop.run("evaluate", "judged", {"models": {"encoder": "reader"}, "num_scorers": 2} | judging)
    content = workshop.judged("judged")
    difference = content["differences"]["chosen - random_weights"]["squad_f1"]
    print(f"F1 above that of random weights: {difference}")
    assert difference["low"] > 0

    rows = workshop.test_rows("judged", "encoder")
    assert len(rows) > 100
    told = content["models"][0]["test"]
    scores = [_scored(row["prediction"], [answer["text"] for answer in row["answers"]]) for row in rows]
    exact, f1 = (fmean(column) for column in zip(*scores, strict=True))
    print(f"test: exact match {exact:.4f}, F1 {f1:.4f} of {len(rows)} questions")
    assert told["squad_exact_match"]["value"] == pytest.approx(exact)
    assert told["squad_f1"]["value"] == pytest.approx(f1)


def _scored(prediction: str, answers: list[str]) -> tuple[float, float]:
    """Exact match and F1 against the best answer, written down anew from Rajpurkar et al., 2016, section 6.1."""
    told = _words(prediction)
    exact = max(float(told == _words(answer)) for answer in answers)
    return exact, max(_f1(told, _words(answer)) for answer in answers)


def _words(text: str) -> list[str]:
    bare = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def _f1(told: list[str], wanted: list[str]) -> float:
    both = (Counter(told) & Counter(wanted)).total()
    return 2 * both / (len(told) + len(wanted)) if both else 0.0
