"""Muon against torch's own, offload against none; and checkpoints of both, on two ranks."""

from pathlib import Path
from typing import Any

import pytest
import torch

from llmcore.objectives.causal_lm import CausalLM
from llmcore.storage import Folder, read_manifest
from llmcore.tokens.order import RowOrder
from llmcore.train.progress import Progress
from llmcore.train.rows import step_rows
from llmcore.train.schedule import learning_rate_factor
from tests.engines import GLOBAL_BATCH, NUM_STEPS, ROWS, batch_of, steps, tiny_engine, tiny_model, tiny_settings
from tests.ranks import run_ranks

MUON = {"optimizer": {"kind": "muon", "learning_rate": 3e-3, "muon_learning_rate": 0.02}}
CASES: dict[str, tuple[int, str, dict[str, Any]]] = {
    "muon-1": (1, "fp32", MUON),
    "muon-2": (2, "fp32", MUON),
    "muon-3": (3, "fp32", MUON),
    "muon-bf16-2": (2, "bf16", MUON),
    "muon-bf16-3": (3, "bf16", MUON),
    "plain": (2, "fp32", {}),
    "offload-1": (1, "fp32", {"offload": {"optimizer": "cpu"}}),
    "offload-2": (2, "fp32", {"offload": {"optimizer": "cpu"}}),
    "offload-3": (3, "fp32", {"offload": {"optimizer": "cpu", "parameters": "cpu"}}),
}


def _exactly() -> None:
    """Muon's kernels as they are written, and in fp32 on every machine.

    DeepSpeed orthogonalizes in fp16 where a CPU has it, and fp16 rounds by the order in which a stage adds.
    """
    from deepspeed.runtime.zero.muon import original_muon

    torch._dynamo.config.disable = True  # type: ignore[attr-defined]
    original_muon.ns_compute_dtype = lambda ns_method="gram": torch.float32


def _train_save_reload(root: str) -> dict[str, tuple[list[float], list[float]]]:
    from llmcore.train.checkpoint import load_checkpoint, save_checkpoint

    _exactly()
    found = {}
    for name, (stage, precision, settings) in CASES.items():
        engine, checkpoints = tiny_engine(stage, precision, **settings), Folder(f"{root}/{name}")  # type: ignore[arg-type]
        losses = steps(engine, 0, 3)
        saved = save_checkpoint(engine, checkpoints, Progress(step=3), attempt=1)
        losses += steps(engine, 3, NUM_STEPS)
        again = tiny_engine(stage, precision, **settings)  # type: ignore[arg-type]
        manifest = read_manifest(checkpoints / saved)
        assert manifest is not None
        load_checkpoint(again, checkpoints / saved, manifest)
        found[name] = (losses, steps(again, 3, NUM_STEPS))
    return found


def _moved(root: str) -> dict[tuple[str, str], list[float]]:
    """Muon's checkpoints at other stages and another world size."""
    from llmcore.train.checkpoint import load_checkpoint

    _exactly()
    found = {}
    for written, read in (("muon-1", "muon-3"), ("muon-3", "muon-2"), ("muon-2", "muon-2")):
        folder = Folder(f"{root}/{written}/step-00000003-attempt-01")
        manifest = read_manifest(folder)
        assert manifest is not None
        engine = tiny_engine(CASES[read][0], **MUON)
        load_checkpoint(engine, folder, manifest)
        found[written, read] = steps(engine, 3, NUM_STEPS)
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[list[float], list[float]]]]:
    root = tmp_path_factory.mktemp("optimizers")
    return root, run_ranks(2, _train_save_reload, str(root), out=root / "out")[0]


def _torch_muon_losses() -> list[float]:
    model, settings = tiny_model(), tiny_settings(0)
    named = list(model.named_parameters())
    hidden = [p for name, p in named if p.dim() == 2 and "wte" not in name and "wpe" not in name]
    ends = [p for name, p in named if p.dim() == 2 and ("wte" in name or "wpe" in name)]
    muon = torch.optim.Muon(hidden, lr=0.02, weight_decay=0.1, momentum=0.95, eps=1e-7)
    adam = torch.optim.AdamW(
        [
            {"params": ends, "weight_decay": 0.1},
            {"params": [p for _, p in named if p.dim() < 2], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.95),
    )
    losses = []
    for step in range(NUM_STEPS):
        batch = batch_of(step_rows(RowOrder(len(ROWS), 7), GLOBAL_BATCH, 1, 0, step))
        factor = learning_rate_factor(settings.schedule, step, NUM_STEPS)
        for optimizer, learning_rate in ((muon, 0.02), (adam, 3e-3)):
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * factor
        loss = CausalLM().loss_sums(model, batch).sum() / CausalLM().num_targets(batch)[0]
        loss.backward()
        muon.step()
        adam.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", ["muon-1", "muon-2", "muon-3"])
def test_muon_is_torch_s_muon_with_its_adamw(trained: tuple[Path, Any], name: str) -> None:
    """To the bfloat16 in which torch orthogonalizes: DeepSpeed does it in fp32 here."""
    losses = trained[1][name][0]
    assert losses == pytest.approx(_torch_muon_losses(), abs=2e-4)
    assert losses == pytest.approx(trained[1]["muon-1"][0], abs=2e-6)
    assert losses != pytest.approx(trained[1]["plain"][0], abs=2e-3), "it is not AdamW"


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_offload_changes_no_loss(trained: tuple[Path, Any], stage: int) -> None:
    assert trained[1][f"offload-{stage}"][0] == pytest.approx(trained[1]["plain"][0], abs=2e-6)


@pytest.mark.parametrize("name", CASES)
def test_what_is_resumed_goes_on_bit_for_bit(trained: tuple[Path, Any], name: str) -> None:
    losses, resumed = trained[1][name]
    assert resumed == (losses[3:] if "bf16" not in name else pytest.approx(losses[3:], abs=1e-3))


def test_muon_s_momentum_moves_between_stages_and_world_sizes(trained: tuple[Path, Any], tmp_path: Path) -> None:
    root, found = trained
    [moved] = run_ranks(1, _moved, str(root), out=tmp_path)
    for (written, _), losses in moved.items():
        assert losses == pytest.approx(found[written][0][3:], abs=2e-6)
