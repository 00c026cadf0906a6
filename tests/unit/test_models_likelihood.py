"""Pseudo-log-likelihoods against plain transformers, which masks one token of one text at a time."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM

from llmcore.models.likelihood import pseudo_log_likelihoods
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
