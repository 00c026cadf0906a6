"""`make proof TOPIC=answers`: an own GPT learns to sum up, to write programs, to follow instructions; it is judged."""

from typing import Any

import pytest

from llmcore.records import read_metrics
from tests.shared_data import DATA, needs_data
from tests.workshop import Workshop

pytestmark = [pytest.mark.proof, pytest.mark.proof_answers, pytest.mark.timeout(3600), needs_data]

MODEL = {"family": "gpt2", "sizes": {"n_embd": 320, "n_layer": 7, "n_head": 5}}
NUM_STEPS = 240
KEY = "validation_perplexity"
SETS = {
    "summarization": {"data.train": DATA / "dialogsum/dialogsum.dev.jsonl"},
    "code": {"data.train": DATA / "mbpp/train.jsonl", "data.test": DATA / "mbpp/validation.jsonl"},
    "chat": {"data.train": DATA / "instruct_seed/seed_tasks.jsonl"},
}
JUDGED: dict[str, dict[str, Any]] = {
    "summarization": {"metrics": ["rouge1", "rougeL", "perplexity"], "baselines": ["lead_3"]},
    "code": {"metrics": ["pass_at_1", "perplexity"], "choose_by": "perplexity", "baselines": []},
    "chat": {"metrics": ["chrf", "perplexity"], "choose_by": "perplexity", "baselines": []},
}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Holds a GPT of 10 M parameters that has read books and programs: `base`."""
    workshop = Workshop(tmp_path_factory.mktemp("answers"))
    books = {"name": "books", "url": str(DATA / "books_public_domain/books_train.jsonl.gz"), "weight": 0.5}
    code = {"name": "code", "url": str(DATA / "code_python_stdlib/train.jsonl.gz"), "weight": 0.5}
    prepared = {
        "sources": [books, code],
        "splits": {"validation": 0.02, "test": 0},
        "tokenizer": {"vocab_size": 4096, "sample_bytes": 8_000_000},
        "packing": {"sequence_length": 512},
    }
    workshop.run("prepare", "read", prepared)
    train = {
        "num_steps": NUM_STEPS,
        "global_batch_size": 16,
        "micro_batch_size": 8,
        "optimizer": {"learning_rate": 1e-3},
        "zero_stage": 1,
    }
    workshop.run("pretrain", "base", {"tokens": "read", "model": MODEL, "train": train, "workers": {"num_workers": 2}})
    return workshop


@pytest.mark.parametrize("name", SETS)
def test_an_own_gpt_learns_to_answer_and_is_judged(workshop: Workshop, name: str) -> None:
    workshop.run_shipped("finetune", name, f"finetune/{name}.yaml", base="base", **SETS[name])
    held_out = [row[KEY] for row in read_metrics(workshop.storage / name) if KEY in row]
    print(f"{name}: held-out perplexity of answers {held_out}")
    assert len(held_out) > 2 and min(held_out) < 0.9 * held_out[0]

    settings = {"models": {"gpt": name}, "num_scorers": 2} | JUDGED[name]
    workshop.run("evaluate", f"{name}.judged", settings)
    content = workshop.judged(f"{name}.judged")
    told = content["models"][0]["test"]
    print(f"{name}: { ({metric: told[metric]['value'] for metric in JUDGED[name]['metrics']}) }")
    assert set(JUDGED[name]["metrics"]) <= set(told)
    rows = workshop.test_rows(f"{name}.judged", "gpt")
    assert len(rows) == workshop.labelled(f"{name}.judged").num_rows("test")
    assert any(row["prediction"] for row in rows)
