"""What is exported is a plain Hugging Face model, and computes what was measured."""

from pathlib import Path

import pytest

from llmcore.records import newest_result
from llmcore.storage import Folder
from llmcore.tokens.shards import TokenShards


def test_plain_transformers_gives_the_reported_validation_loss(reference: Path) -> None:
    from tests.parity import plain_validation_loss

    storage = Folder(str(reference))
    pretrained, prepared = newest_result(storage / "tiny.pretrain"), newest_result(storage / "tiny.prepare")
    assert pretrained is not None
    assert prepared is not None
    shards = TokenShards.open(Folder(f"{storage.url}/{prepared['tokens']}"))
    plain = plain_validation_loss(reference / pretrained["model"], shards, pretrained["num_validation_rows"])
    assert plain == pytest.approx(pretrained["validation_loss"], abs=1e-4)


def test_it_generates_from_a_prompt(reference: Path) -> None:
    from transformers import pipeline

    told = pipeline("text-generation", model=str(reference / "tiny.pretrain/model"))("return the", max_new_tokens=8)
    assert told[0]["generated_text"].startswith("return the")


def test_a_trials_export_classifies_by_its_label_names(reference: Path) -> None:
    from transformers import AutoTokenizer, pipeline

    exports = sorted((reference / "tiny.tune/trials/trial-000/exports").iterdir())
    tokenizer = AutoTokenizer.from_pretrained(exports[-1])
    classify = pipeline("text-classification", model=str(exports[-1]), tokenizer=tokenizer)
    assert classify("open the file" + tokenizer.eos_token)[0]["label"] in {"files", "text", "time"}
