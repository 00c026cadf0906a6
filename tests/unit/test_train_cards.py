"""What a model card tells of the training."""

from typing import Any

from llmcore.train.cards import compute_section

TOLD: dict[str, Any] = {"flops": 1e12, "world_size": 2, "device": "cpu", "precision": "fp32", "zero_stage": 2}


def test_the_share_that_trained_is_told() -> None:
    part = compute_section(num_parameters=10_000, num_trained=250, **TOLD)
    assert "10,000 parameters, 250 (2.50%) of them, trained with 1.00e+12" in part
    assert "10,000 parameters, trained with" in compute_section(num_parameters=10_000, num_trained=10_000, **TOLD)
