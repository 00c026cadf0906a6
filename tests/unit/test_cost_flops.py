"""FLOPs: what is counted of a model against torch's own counter of operators, and peaks that are known or null."""

from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from llmcore.config.method import MethodSettings
from llmcore.config.pretrain import Learnt
from llmcore.cost import ModelFlops, Work, peak_flops_per_s
from llmcore.models.build import build_language_model, lay_out_language_model
from llmcore.models.flops import model_flops
from llmcore.models.methods import apply_method
from llmcore.tasks.question_answering import QuestionAnswering, SpanBatch
from llmcore.tasks.text_classification import ClassExample, TextClassification
from tests.architectures import ARCHITECTURES, batch_for, documents, tiny_config


def _counted(objective: Any, model: Any, batch: Any) -> tuple[int, int]:
    """What torch counts of the forward pass, and of both; attention as products of matrices, computed once."""
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward:
            loss = objective.loss_sums(model, batch).sum()
        with FlopCounterMode(display=False) as backward:
            loss.backward()
    return forward.get_total_flops(), forward.get_total_flops() + backward.get_total_flops()


@pytest.mark.parametrize(("family", "learnt", "sizes"), ARCHITECTURES)
def test_a_model_needs_what_torch_counts(family: str, learnt: Learnt, sizes: dict[str, Any]) -> None:
    config = tiny_config(family, sizes)
    model = build_language_model(learnt, config, seed=0)
    objective, batch = batch_for(learnt)
    forward, both = _counted(objective, model, batch)
    flops, work = model_flops(model), objective.work(batch)
    # Positions that turn are products of matrices, too; nothing else is beside.
    assert flops.of_forward(work) == pytest.approx(forward, rel=2e-3)
    assert flops.of_training(work) == pytest.approx(both, rel=2e-3)
    assert model_flops(lay_out_language_model(learnt, config)) == flops, "without memory for it"


_METHODS = [{"name": "full", "frozen_layers": 1}, {"name": "head_only"}, {"name": "lora", "rank": 4}]
_NO_HEAD = [(0, "head_only"), (8, "head_only")]
"""GPT-2's is its embeddings, and T5's is no module of its own."""


@pytest.mark.parametrize(
    ("case", "method"),
    [(case, method) for case in (0, 2, 5, 8) for method in _METHODS if (case, method["name"]) not in _NO_HEAD],
    ids=lambda given: ARCHITECTURES[given][0] if isinstance(given, int) else given["name"],
)
def test_what_does_not_train_has_no_gradients(case: int, method: dict[str, Any]) -> None:
    family, learnt, sizes = ARCHITECTURES[case]
    model = build_language_model(learnt, tiny_config(family, sizes), seed=0)
    apply_method(model, MethodSettings.model_validate(method), seed=0)
    objective, batch = batch_for(learnt)
    forward, both = _counted(objective, model, batch)
    flops, work = model_flops(model), objective.work(batch)
    assert flops.of_forward(work) == pytest.approx(forward, rel=2e-3)
    assert flops.of_training(work) == pytest.approx(both, rel=1e-2)


def test_heads_read_one_state_of_a_document_or_each_of_its_tokens() -> None:
    classifies = TextClassification(96, "macro_f1", ("a", "b", "c"))
    texts = [ClassExample(list(range(2, 34)), 0, (0,)), ClassExample([2] * 64, 0, (1,))]
    batch = classifies.collate(texts)
    assert classifies.work(batch) == Work(read=96, predicted=2, pooled=2, read_pairs=32**2 + 64**2)

    reads = QuestionAnswering.__new__(QuestionAnswering)
    spans = SpanBatch(documents((32, 64)), torch.tensor([1, 40]), torch.tensor([3, 41]), 2)
    assert reads.work(spans) == Work(read=96, predicted=96, read_pairs=32**2 + 64**2)


def test_palm_s_own_figures() -> None:
    """540 B parameters, 118 layers, 48 heads of 256, context 2,048: 6 N + 12 L H Q T a token."""
    forward = Work(read=2 * 540e9, read_pairs=4 * 118 * 48 * 256)
    flops = ModelFlops(forward, Work(*(3 * each for each in forward)))
    of_row = Work(read=2048, read_pairs=2048**2)
    assert flops.of_training(of_row.per(2048)) == 6 * 540e9 + 12 * 118 * 48 * 256 * 2048


@pytest.mark.parametrize(
    ("device", "precision", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989.4e12),
        ("NVIDIA H100 PCIe", "bf16", 756e12),
        ("NVIDIA H200", "fp32", 66.9e12),
        ("NVIDIA A100-SXM4-80GB", "bf16", 312e12),
        ("NVIDIA A10G", "bf16", 70e12),
        ("NVIDIA A10", "bf16", 125e12),
        ("Tesla V100-SXM2-16GB", "fp32", 15.7e12),
        ("Tesla V100-SXM2-16GB", "bf16", None),
        ("Tesla T4", "bf16", None),
        ("Tesla T4", "fp16", 65e12),
        ("Tesla V100-SXM2-16GB", "fp16", 125e12),
        ("NVIDIA L4", "fp16", 121e12),
        ("cpu", "fp32", None),
        ("NVIDIA H100 80GB HBM3", "fp8", None),
        ("Some GPU A1000", "bf16", None),
    ],
)
def test_a_peak_is_known_or_null(device: str, precision: str, peak: float | None) -> None:
    assert peak_flops_per_s(device, precision) == (None if peak is None else pytest.approx(peak))
