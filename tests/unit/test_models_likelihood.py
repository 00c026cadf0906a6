"""Pseudo-log-likelihoods against plain transformers, which masks one token of one text at a time."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM

from llmcore.models.build import build_language_model
from llmcore.models.generation.scoring import packed_attention
from llmcore.models.likelihood import pseudo_log_likelihoods
from llmcore.models.packed import PackedBatch, hidden_states, states_at
from tests.architectures import ARCHITECTURES, tiny_config
from tests.bases import write_base

MASK = 3
TEXTS = [[4, 10, 11, 12, 5], [4, 20, 21, 5], [4, 30, 31, 32, 33, 34, 5]]
PLACES = [[1, 2, 3], [2], [1, 5]]


def _plain(model: Any, text: list[int], places: list[int]) -> float:
    total = 0.0
    for place in places:
        masked = torch.tensor([[*text[:place], MASK, *text[place + 1 :]]])
        with torch.inference_mode():
            logits = model(masked).logits[0, place]
        total += float(logits.log_softmax(-1)[text[place]])
    return total


@pytest.mark.parametrize("batch_tokens", [1, 12, 1000])
def test_each_token_is_masked_by_itself(batch_tokens: int, tmp_path: Path) -> None:
    write_base(tmp_path, "bert")
    model = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    found = pseudo_log_likelihoods(model, TEXTS, PLACES, mask_id=MASK, batch_tokens=batch_tokens)
    assert found == pytest.approx([_plain(model, *one) for one in zip(TEXTS, PLACES, strict=True)], abs=1e-4)


def test_a_text_of_which_nothing_is_asked_is_certain(tmp_path: Path) -> None:
    write_base(tmp_path, "bert")
    model = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    assert pseudo_log_likelihoods(model, TEXTS, [[], [1], []], mask_id=MASK, batch_tokens=64)[::2] == [0.0, 0.0]


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
def test_states_of_a_few_tokens_are_those_of_all(family: str) -> None:
    [config] = [
        tiny_config(name, sizes) for name, learnt, sizes in ARCHITECTURES if (name, learnt) == (family, "masked_lm")
    ]
    model = build_language_model("masked_lm", config, seed=1).eval()
    batch = PackedBatch.of_documents([[5, 9, 11], [7, 8], [20, 21, 22, 23]])
    places = torch.tensor([0, 4, 4, 7])
    with torch.inference_mode(), packed_attention(model):
        whole = hidden_states(model, batch).flatten(0, 1)
        assert torch.allclose(states_at(model, batch, places), whole[places], atol=1e-5)
        assert torch.equal(hidden_states(model, batch).flatten(0, 1), whole), "and the model is as it was"
