"""Continuations that share a prefix are as likely together as each by itself."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from llmcore.models.branches import branch_losses
from llmcore.models.generation.scoring import loss_sums
from tests.writers import write_writer

PREFIXES = [[5], [9, 10, 11, 12, 13, 14], [20, 21]]
BRANCHES = [[[7], [8, 9, 10]], [[15, 16], [15, 17], [30, 31, 32, 33]], [[22, 23, 24]]]


@pytest.mark.parametrize("batch_tokens", [1, 1000])
@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_branches_are_as_likely_as_texts_that_are_read_one_by_one(
    family: str, batch_tokens: int, tmp_path: Path
) -> None:
    write_writer(tmp_path, family)
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    before = model.config._attn_implementation
    found = branch_losses(model, PREFIXES, BRANCHES, batch_tokens=batch_tokens)
    assert model.config._attn_implementation == before
    for prefix, branches, losses in zip(PREFIXES, BRANCHES, found, strict=True):
        assert [len(one) for one in losses] == [len(one) for one in branches]
        alone = loss_sums(model, [prefix] * len(branches), branches, batch_tokens=64)
        assert [sum(one) for one in losses] == pytest.approx(alone, abs=1e-4)
        for branch, of_branch in zip(branches, losses, strict=True):
            longer = [[*prefix, *branch[:place]] for place in range(len(branch))]
            each = loss_sums(model, longer, [[token] for token in branch], batch_tokens=64)
            assert of_branch == pytest.approx(each, abs=1e-4), "token by token"
