"""The engine on a GPU: the losses of a plain loop on a CPU, however a run is set up, and after a resume."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llmcore.errors import ConfigError
from llmcore.models.packed import PackedBatch
from llmcore.storage import Folder, read_manifest
from llmcore.train.precision import Precision, resolve_precision
from llmcore.train.progress import Progress
from tests.engines import NUM_STEPS, batch_of, plain_losses, steps, tiny_engine, tiny_settings, whole_state

SAVED = 3
LONGEST = batch_of(np.arange(2))
CASES: dict[str, tuple[int, Precision, dict[str, Any]]] = {
    "zero-0": (0, "fp32", {}),
    "zero-1": (1, "fp32", {}),
    "zero-2": (2, "fp32", {}),
    "zero-3": (3, "fp32", {}),
    "checkpointed": (2, "fp32", {"activation_checkpointing": True}),
    "compiled": (3, "fp32", {"compile": True}),
    "offload": (2, "fp32", {"offload": {"optimizer": "cpu"}}),
    "offload-3": (3, "fp32", {"offload": {"optimizer": "cpu", "parameters": "cpu"}}),
    "bf16-1": (1, "bf16", {"compile": True}),
    "bf16-3": (3, "bf16", {"activation_checkpointing": True}),
    "fp16-2": (2, "fp16", {}),
}


@pytest.fixture(scope="module")
def plain() -> list[float]:
    return plain_losses()


@pytest.mark.parametrize("case", CASES)
def test_losses_are_those_of_a_plain_loop_also_after_a_resume(
    gpu: torch.device, tmp_path: Path, plain: list[float], case: str
) -> None:
    from llmcore.train.checkpoint import load_checkpoint, save_checkpoint

    stage, precision, changes = CASES[case]
    engine = tiny_engine(stage, precision, device=gpu, **changes)
    losses, scales = steps(engine, 0, SAVED), engine.loss_scale
    saved = save_checkpoint(engine, Folder(str(tmp_path)), Progress(step=SAVED), attempt=1)
    losses += steps(engine, SAVED, NUM_STEPS)
    again = tiny_engine(stage, precision, device=gpu, **changes)
    manifest = read_manifest(Folder(str(tmp_path)) / saved)
    assert manifest is not None
    load_checkpoint(again, Folder(str(tmp_path)) / saved, manifest)
    resumed = steps(again, SAVED, NUM_STEPS)
    if precision == "fp32":
        assert losses == pytest.approx(plain, rel=1e-5)
        assert resumed == pytest.approx(losses[SAVED:], abs=1e-6)
    else:
        # fp16 steps once its loss scale has come down.
        assert precision == "fp16" or losses == pytest.approx(plain, abs=0.05)
        assert resumed == pytest.approx(losses[SAVED:], abs=2e-3)
        assert losses[-1] < losses[0] and (scales is None) == (precision == "bf16")


def test_a_gpu_multiplies_bf16_of_itself(gpu: torch.device) -> None:
    assert resolve_precision(tiny_settings(1, precision="auto")) == "bf16"


def test_random_numbers_go_on_where_a_checkpoint_stands(gpu: torch.device, tmp_path: Path) -> None:
    from llmcore.train.checkpoint import load_checkpoint, save_checkpoint

    engine, folder = tiny_engine(1, device=gpu), Folder(str(tmp_path))
    steps(engine, 0, 1)
    checkpoint = folder / save_checkpoint(engine, folder, Progress(step=1), attempt=1)
    drawn = torch.rand(8, device=gpu)
    manifest = read_manifest(checkpoint)
    assert manifest is not None
    load_checkpoint(engine, checkpoint, manifest)
    assert torch.equal(torch.rand(8, device=gpu), drawn)


def test_a_batch_that_fits_leaves_no_trace_of_the_dry_step(gpu: torch.device) -> None:
    from llmcore.train.dry_step import dry_step

    engine = tiny_engine(2, device=gpu)
    before = whole_state(engine)
    dry_step(engine, LONGEST)
    after = whole_state(engine)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_too_long_a_batch_is_found_before_the_run(gpu: torch.device) -> None:
    from llmcore.train.dry_step import dry_step

    engine = tiny_engine(2, device=gpu)
    torch.cuda.empty_cache()
    rows = LONGEST.tokens.repeat(4096, 1)
    held = torch.cuda.memory_allocated() + 2**21
    torch.cuda.set_per_process_memory_fraction(held / torch.cuda.get_device_properties(gpu).total_memory)
    try:
        with pytest.raises(ConfigError, match=r"micro_batch_size=2: the longest batch does not fit .* cuda:0"):
            dry_step(engine, PackedBatch.of_rows(rows, [[rows.shape[1]]] * len(rows)))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
