"""`make proof TOPIC=bias_sets`: four published sets, whole, measure an own masked model and an own decoder."""

from pathlib import Path
from typing import Any

import pytest

from tests.shared_data import DATA, needs_data, write_chapters
from tests.workshop import Workshop

pytestmark = [pytest.mark.proof, pytest.mark.proof_bias_sets, pytest.mark.timeout(3600), needs_data]

WITHIN_S = 600
"""Of two cores, for both models by all four sets: from the start of the command to its end."""
SETS = {"crows_pairs": 1508, "winobias": 1584, "winogender": 240, "bbq": 4000}
"""Their rows; of BBQ, of whose 58,492 Age and Nationality are there, as many as the shipped configuration takes."""
MODELS: dict[str, dict[str, Any]] = {
    "bert": {
        "objective": "masked_lm",
        "model": {
            "family": "bert",
            "sizes": {
                "hidden_size": 256,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "intermediate_size": 1024,
            },
        },
        "train": {"num_steps": 200, "global_batch_size": 16, "micro_batch_size": 8},
    },
    "gpt": {
        "model": {"family": "gpt2", "sizes": {"n_embd": 320, "n_layer": 7, "n_head": 5}},
        "train": {"num_steps": 100, "global_batch_size": 16, "micro_batch_size": 8},
    },
}
"""Of 3.5 and 10 million parameters; they have seen a few books, and learnt little."""
SIZES = {"bert": (3e6, 5e6), "gpt": (9e6, 11e6)}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("bias"))


def test_four_sets_measure_an_own_masked_model_and_an_own_decoder(workshop: Workshop, tmp_path: Path) -> None:
    source = {"name": "books", "url": str(write_chapters(tmp_path))}
    tokenizer = {"vocab_size": 4096, "sample_bytes": 8_000_000, "begin_documents": True}
    packing = {"sequence_length": 256}
    splits = {"validation": 0.02, "test": 0}
    workshop.run(
        "prepare", "books", {"sources": [source], "splits": splits, "tokenizer": tokenizer, "packing": packing}
    )
    for name, settings in MODELS.items():
        train = {"zero_stage": 1, "log_every": 20, "optimizer": {"learning_rate": 6e-4}} | settings["train"]
        result = workshop.run("pretrain", name, {"tokens": "books"} | settings | {"train": train})
        assert SIZES[name][0] < result["num_parameters"] < SIZES[name][1]

    urls = {f"bias.sets.{name}.url": str(DATA / name) for name in SETS}
    models = {f"bias.models.{name}": name for name in MODELS}
    result = workshop.run_shipped("evaluate", "bias", "evaluate/bias.yaml", **urls, **models)
    print((workshop.path("bias/evaluation/bias.md")).read_text())
    content = result["bias"]
    assert {name: one["num_rows"] for name, one in content["sets"].items()} == SETS
    for model, by_set in content["models"].items():
        for name, told in by_set.items():
            assert (told["num_rows"], told["num_too_long"]) == (SETS[name], 0), (model, name)
            assert told["figures"] and all(
                one["low"] <= one["value"] <= one["high"] for one in told["figures"].values()
            )
    assert workshop.seconds["bias"] <= WITHIN_S
    assert workshop.run_shipped("evaluate", "bias", "evaluate/bias.yaml", **urls, **models) == result
    assert workshop.seconds["bias"] < 60, "what is measured is found"
