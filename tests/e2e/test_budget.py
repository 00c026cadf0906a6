"""A run that may cost no more: it saves its step, says why, and goes on when it may cost more."""

from pathlib import Path
from typing import Any

import pytest

from llmcore.records import attempt_folder, newest_result
from llmcore.storage import Folder
from tests.drivers import Ended, run_jobs
from tests.tiny import tiny_stage, told_losses, write_config

NUM_STEPS = 300
SPENT = {"hours": 0.001, "price_per_device_hour": 2.0}
"""Less than what the workers need to start."""


def _pretrain(folder: Path, tiny: dict[str, Any], reference: Path, one_ray: dict[str, str], *changed: str) -> Ended:
    stage = tiny_stage(tiny, "pretrain")
    train = stage["train"] | {"num_steps": NUM_STEPS, "validate_every": NUM_STEPS, "checkpoint_every": NUM_STEPS}
    given = {"name": "tiny.pretrain", "storage": str(folder / "runs"), "tokens": f"{reference}/tiny.prepare"}
    config = write_config(folder / "pretrain.yaml", given | stage | {"train": train, "budget": SPENT})
    return run_jobs("pretrain", str(config), *changed, cwd=folder, **one_ray)


def test_a_run_ends_in_order_when_its_budget_is_spent(
    tmp_path: Path, tiny: dict[str, Any], reference: Path, one_ray: dict[str, str]
) -> None:
    stopped = _pretrain(tmp_path, tiny, reference, one_ray)
    run = Folder(str(tmp_path / "runs")) / "tiny.pretrain"
    assert stopped.code == 3, stopped.out + stopped.err
    assert "budget.hours=0.001 is spent: raise it to go on" in stopped.err and "is saved" in stopped.err
    first = attempt_folder(run, 1)
    assert first.read_json("end.json")["status"] == "interrupted"
    assert len((run / "checkpoints").names()) == 1
    num_told = len(told_losses(tmp_path / "runs"))
    assert 0 < num_told < NUM_STEPS

    cost = first.read_json("cost.json")
    seconds = first.read_json("end.json")["seconds"] + cost["start_up_parts"]["connect"]
    held = sum(cost["device_seconds"].values())
    assert held == pytest.approx(2 * seconds, rel=0.02), "each device is held as long as the run goes"
    assert cost["money"] == pytest.approx(2.0 * held / 3600)

    again = _pretrain(tmp_path, tiny, reference, one_ray)
    assert again.code == 3 and "is spent by earlier starts of tiny.pretrain" in again.err
    assert not attempt_folder(run, 2).exists("begin.json"), "nothing more begins"

    ended = _pretrain(tmp_path, tiny, reference, one_ray, "budget.hours=1")
    assert ended.code == 0, ended.out + ended.err
    result = newest_result(run)
    assert result is not None and result["num_steps"] == NUM_STEPS
    steps = [row["step"] for row in told_losses(tmp_path / "runs") if "loss" in row]
    assert steps == list(range(1, NUM_STEPS + 1)), "no step is taken twice"
