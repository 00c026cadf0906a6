"""What is not finite, and what spikes, reaches neither weights nor optimizer, at any stage."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

from llmcore.errors import DivergedError, NonFiniteError
from llmcore.objectives.causal_lm import CausalLM
from llmcore.records import read_metrics
from llmcore.storage import Folder
from tests.engines import GLOBAL_BATCH, micro_batches, tiny_engine, whole_state
from tests.ranks import run_ranks
from tests.tiny_run import fit_tiny, write_tokenizer

CASES = [(stage, "fp32") for stage in (0, 1, 2, 3)] + [(1, "bf16"), (2, "bf16"), (3, "bf16")]


class _InfiniteGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0] * float("inf")


class _Poisoned(CausalLM):
    """One rank's loss is finite, its gradient is not, in the first micro batch of a step that is `poisoned`."""

    poisoned = False
    factor = 1.0

    def loss_sums(self, model: Any, batch: Any) -> torch.Tensor:
        sums = super().loss_sums(model, batch) * self.factor
        if self.poisoned and distributed.get_rank() == distributed.get_world_size() - 1:
            self.poisoned = False
            return _InfiniteGradient.apply(sums)  # type: ignore[no-any-return, no-untyped-call]
        return sums


def _refuse() -> dict[tuple[int, str], dict[str, Any]]:
    found = {}
    for stage, precision in CASES:
        objective = _Poisoned()
        engine = tiny_engine(stage, precision, objective=objective)
        for step in range(2):
            engine.step(step, micro_batches(engine, step))
        before = whole_state(engine)
        case: dict[str, Any] = {}

        objective.poisoned = True
        with pytest.raises(NonFiniteError) as error:
            engine.step(2, micro_batches(engine, 2))
        case["gradient"] = str(error.value)
        objective.poisoned = True
        case["skipped_gradient"] = engine.step(2, micro_batches(engine, 2), lambda loss: False).skipped
        objective.factor = 100.0
        case["spike"] = engine.step(2, micro_batches(engine, 2), lambda loss: loss > 50).skipped
        objective.factor = float("nan")
        case["skipped_loss"] = engine.step(2, micro_batches(engine, 2), lambda loss: not loss < 50).skipped
        after = whole_state(engine)
        case["untouched"] = all(torch.equal(before[key], after[key]) for key in before)

        objective.factor = 1.0
        result = engine.step(2, micro_batches(engine, 2), lambda loss: loss > 50)
        case["goes_on"] = (result.skipped, result.loss)
        objective.factor = float("inf")
        with pytest.raises(NonFiniteError) as error:
            engine.step(3, micro_batches(engine, 3))
        case["loss"] = str(error.value)

        undisturbed = tiny_engine(stage, precision)
        case["undisturbed"] = [undisturbed.step(step, micro_batches(undisturbed, step)).loss for step in range(3)]
        found[stage, precision] = case
    return found


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> list[dict[tuple[int, str], dict[str, Any]]]:
    return run_ranks(2, _refuse, out=tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_not_finite_or_spikes_leaves_weights_and_moments_bit_for_bit(
    refused: list[dict[tuple[int, str], dict[str, Any]]], case: tuple[int, str]
) -> None:
    for rank in refused:
        found = rank[case]
        assert found["untouched"]
        assert found["skipped_gradient"] == found["spike"] == found["skipped_loss"] == "spike"
        assert "step 3: the gradient norm is" in found["gradient"]
        assert "step 4: the loss is" in found["loss"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_after_a_skip_training_goes_on_as_if_nothing_had_been(
    refused: list[dict[tuple[int, str], dict[str, Any]]], case: tuple[int, str]
) -> None:
    for rank in refused:
        assert rank[case]["goes_on"] == (None, rank[case]["undisturbed"][2])


class _Spiky(CausalLM):
    """The losses of these calls in training (1-based) are a hundredfold."""

    def __init__(self, spikes: set[int]) -> None:
        self.calls, self.spikes = 0, spikes

    def loss_sums(self, model: Any, batch: Any) -> torch.Tensor:
        sums = super().loss_sums(model, batch)
        if torch.is_grad_enabled():
            self.calls += 1
            return sums * (100.0 if self.calls in self.spikes else 1.0)
        return sums


def _fit_through_spikes(root: str, action: str) -> dict[str, Any]:
    # One micro batch a step and rank: the nth call is the nth step's.
    spikes = {"action": action, "factor": 1.5, "window": 2, "max_in_a_row": 2}
    return fit_tiny(
        Folder(f"{root}/{action}"),
        Path(root) / "tokenizer",
        objective=_Spiky({5, 6}),
        num_steps=9,
        micro_batch_size=4,
        checkpoint_every=3,
        spikes=spikes,
        schedule={"kind": "constant", "warmup_fraction": 0.0},
    )


def _fit_both(root: str) -> dict[str, Any]:
    return {action: _fit_through_spikes(root, action) for action in ("skip", "roll_back")}


def _reference(steps: list[int]) -> list[float]:
    """Losses of an engine that takes the batches of these steps alone."""
    engine = tiny_engine(2, num_steps=9, micro_batch_size=4, schedule={"kind": "constant", "warmup_fraction": 0.0})
    return [engine.step(step, micro_batches(engine, step)).loss for step in steps]


def test_spikes_are_skipped_or_rolled_back_and_counted(tmp_path: Path) -> None:
    """Steps 5 and 6 (1-based) spike; the checkpoint is of step 3, so that step 4 is undone by a rollback."""
    write_tokenizer(tmp_path / "tokenizer")
    found = run_ranks(2, _fit_both, str(tmp_path), out=tmp_path / "out")
    assert found[0]["skip"]["progress"] == found[1]["skip"]["progress"]
    skip, back = (found[0][action] for action in ("skip", "roll_back"))
    assert (skip["num_steps"], skip["skipped_steps"], skip["rollbacks"]) == (9, 2, 0)
    assert (back["num_steps"], back["skipped_steps"], back["rollbacks"]) == (9, 3, 2)
    assert skip["rows_consumed"] == back["rows_consumed"] == 9 * GLOBAL_BATCH

    rows = {action: read_metrics(Folder(str(tmp_path / action / "tiny"))) for action in ("skip", "roll_back")}
    assert [row["step"] for row in rows["skip"] if row.get("skipped") == "spike"] == [5, 6]
    losses = {action: [row["loss"] for row in rows[action] if "loss" in row] for action in rows}
    [skipped, rolled_back] = run_ranks(1, _references, out=tmp_path / "plain")[0]
    assert losses["skip"] == pytest.approx(skipped, abs=2e-6)
    assert losses["roll_back"] == pytest.approx(rolled_back, abs=2e-6)


def _references() -> tuple[list[float], list[float]]:
    undone = _reference([0, 1, 2, 3])[3]
    rolled_back = _reference([0, 1, 2, 6, 7, 8])
    return _reference([0, 1, 2, 3, 6, 7, 8]), [*rolled_back[:3], undone, *rolled_back[3:]]


def _fit_into_ever_more_spikes(root: str) -> str:
    """One rank takes two micro batches a step: from the third step on, all spike."""
    with pytest.raises(DivergedError) as error:
        fit_tiny(
            Folder(root),
            Path(root) / "tokenizer",
            objective=_Spiky(set(range(5, 99))),
            num_steps=9,
            micro_batch_size=4,
            spikes={"window": 2, "max_in_a_row": 2},
        )
    return str(error.value)


def test_too_many_spikes_in_a_row_end_the_run(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "tokenizer")
    [message] = run_ranks(1, _fit_into_ever_more_spikes, str(tmp_path), out=tmp_path / "out")
    assert message.startswith("step 5: 3 spikes in a row, more than train.spikes.max_in_a_row=2")
