"""Optimizer state and parameters on a disk, through DeepSpeed's async_io: no loss, state or checkpoint is another one.

DeepSpeed keeps in memory what is smaller than a megabyte, so the model here is wider than the others of the suite.
"""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from llmcore.models.initialize import Home
from llmcore.storage import Folder, read_manifest
from llmcore.train.progress import Progress
from tests.engines import NUM_STEPS, steps, tiny_engine, tiny_model, whole_state
from tests.ranks import run_ranks
from tests.tiny_run import TinyRecipe, fit_tiny, write_tokenizer

MANY_SUB_GROUPS = {"deepspeed": {"zero_optimization": {"sub_group_size": 300_000}}}
CASES: dict[str, tuple[int, str, dict[str, str]]] = {
    "plain": (3, "fp32", {}),
    "plain-2": (2, "fp32", {}),
    "optimizer": (3, "fp32", {"optimizer": "nvme"}),
    "parameters": (3, "fp32", {"parameters": "nvme"}),
    "both": (3, "fp32", {"optimizer": "nvme", "parameters": "nvme"}),
    "mixed": (3, "fp32", {"optimizer": "nvme", "parameters": "cpu"}),
    "plain-bf16": (3, "bf16", {}),
    "both-bf16": (3, "bf16", {"optimizer": "nvme", "parameters": "nvme"}),
}
MOVES = [("both", "both"), ("optimizer", "plain"), ("both", "plain"), ("plain", "both"), ("plain-2", "both")]
pytestmark = pytest.mark.timeout(1800)  # where it has to be compiled first, on a busy machine
wide_model = partial(tiny_model, width=384, vocab_size=1400)


@pytest.fixture(scope="module")
def async_io() -> None:
    """Compiles it, where this has not been done on this machine; skips where it cannot be, for the reason given."""
    done = _load_async_io({})
    if done.returncode:
        told = done.stderr.splitlines()[-1]
        assert "ConfigError" in told, done.stderr
        pytest.skip(told)


def _load_async_io(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    load = "from llmcore.train.swapping import load_async_io; load_async_io()"
    return subprocess.run(
        [sys.executable, "-c", load],
        env=os.environ | {"DS_ACCELERATOR": "cpu", "PATH": os.defpath} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def _engine(name: str, root: str) -> Any:
    """The engine of a case, in a folder of its own for each one that is made."""
    from llmcore.train.swapping import own_swap_folder
    from tests.engines import tiny_settings

    stage, precision, offload = CASES[name]
    folder = {"folder": f"{root}/disk"} if "nvme" in offload.values() else {}
    changes: dict[str, Any] = {"offload": offload | folder, **(MANY_SUB_GROUPS if stage == 3 else {})}
    swapping = own_swap_folder(tiny_settings(stage, **changes))
    changes["offload"] = swapping.__enter__().offload.model_dump()
    engine = tiny_engine(stage, precision, build=wide_model, **changes)  # type: ignore[arg-type]
    engine.swapping = swapping  # kept as long as the engine
    return engine


def _trained(root: str) -> dict[str, Any]:
    """Losses of each case; and of each move the state that was saved, the one that was loaded, and the losses after."""
    from llmcore.train.checkpoint import load_checkpoint, save_checkpoint

    found: dict[str, Any] = {"losses": {}, "moves": {}, "files": 0}
    states = {}
    for name in CASES:
        engine = _engine(name, root)
        losses = steps(engine, 0, 3)
        save_checkpoint(engine, Folder(f"{root}/{name}"), Progress(step=3), attempt=1)
        states[name] = whole_state(engine)
        found["losses"][name] = losses + steps(engine, 3, NUM_STEPS)
        if name == "both":
            found["on_disk"] = [path.name for path in Path(engine.settings.offload.folder).rglob("*.swp")]
            found["resident"] = _most_resident(engine)
    for written, read in MOVES:
        folder = Folder(f"{root}/{written}/step-00000003-attempt-01")
        manifest = read_manifest(folder)
        assert manifest is not None
        engine = _engine(read, root)
        if written == read:
            steps(engine, 0, 1)  # as one that is rolled back
        load_checkpoint(engine, folder, manifest)
        found["moves"][written, read] = (states[written], whole_state(engine), steps(engine, 3, NUM_STEPS))
    return found


def _most_resident(engine: Any) -> tuple[int, int]:
    """How many sub-groups there are on disk, and how many of them are ever in memory while fragments are looked at."""
    from llmcore.train.fragments import own_fragments
    from llmcore.train.resident import resident

    optimizer = engine.zero_optimizer
    swapped = [
        master
        for sub_group, master in enumerate(optimizer.fp32_partitioned_groups_flat)
        if optimizer._swappable_optimizer_subgroup(sub_group)
    ]
    lots = resident(engine, own_fragments(engine), changed=False)
    return len(swapped), max(sum(master.numel() > 0 for master in swapped) for _ in lots)


def _read_by_one(root: str) -> list[float]:
    from llmcore.train.checkpoint import load_checkpoint

    folder = Folder(f"{root}/both/step-00000003-attempt-01")
    manifest = read_manifest(folder)
    assert manifest is not None
    engine = tiny_engine(1, build=wide_model)
    load_checkpoint(engine, folder, manifest)
    return steps(engine, 3, NUM_STEPS)


@pytest.fixture(scope="module")
def trained(async_io: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    root = tmp_path_factory.mktemp("nvme")
    return root, run_ranks(2, _trained, str(root), out=root / "out")


@pytest.mark.parametrize("name", ["optimizer", "parameters", "both", "mixed"])
def test_offload_to_nvme_changes_no_loss(trained: tuple[Path, Any], name: str) -> None:
    losses = trained[1][0]["losses"]
    assert losses[name] == pytest.approx(losses["plain"], abs=2e-6)


def test_in_bf16_neither(trained: tuple[Path, Any]) -> None:
    losses = trained[1][0]["losses"]
    assert losses["both-bf16"] == pytest.approx(losses["plain-bf16"], abs=2e-3)


def test_state_and_weights_are_on_the_disk_and_one_sub_group_at_a_time_in_memory(trained: tuple[Path, Any]) -> None:
    for found in trained[1]:
        num_sub_groups, most_resident = found["resident"]
        assert num_sub_groups >= 3
        assert most_resident == 1
        for kind in ("exp_avg-", "exp_avg_sq-", "_param.tensor"):
            assert sum(kind in name for name in found["on_disk"]) >= 3, found["on_disk"]


@pytest.mark.parametrize(("written", "read"), MOVES)
def test_a_checkpoint_moves_to_the_disk_and_back(trained: tuple[Path, Any], written: str, read: str) -> None:
    """Bit for bit where ranks own the same; the steps that follow differ in how gradients are summed for the norm."""
    _, ranks = trained
    for found in ranks:
        saved, loaded, losses = found["moves"][written, read]
        if CASES[written][0] == CASES[read][0]:
            assert saved.keys() == loaded.keys()
            assert all(torch.equal(saved[key], loaded[key]) for key in saved)
        assert losses == pytest.approx(found["losses"][written][3:], abs=2e-6)
        if written == read:
            assert losses == found["losses"][written][3:]


def test_it_is_read_at_another_stage_by_another_number_of_ranks(trained: tuple[Path, Any], tmp_path: Path) -> None:
    root, ranks = trained
    [losses] = run_ranks(1, _read_by_one, str(root), out=tmp_path)
    assert losses == pytest.approx(ranks[0]["losses"]["both"][3:], abs=2e-6)


class _WideRecipe(TinyRecipe):
    def build_model(self, home: Home | None) -> nn.Module:
        return wide_model(home)


def _fits(root: str) -> dict[str, dict[str, Any]]:
    offload = {"optimizer": "nvme", "parameters": "nvme", "folder": f"{root}/disk"}
    fit = partial(fit_tiny, recipe=_WideRecipe, zero_stage=3, schedule={"kind": "constant"}, dry_step=True)
    found = {}
    for name, settings in (("plain", {}), ("nvme", {"offload": offload, **MANY_SUB_GROUPS})):
        folder, tokenizer = Folder(f"{root}/{name}"), Path(root, "tokenizer")
        fit(folder, tokenizer, num_steps=3, **settings)
        found[name] = fit(folder, tokenizer, num_steps=6, **settings)
    return found


@pytest.mark.usefixtures("async_io")
def test_a_run_is_validated_exported_and_resumed_and_leaves_nothing_on_the_disk(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from llmcore.train.exported import export_checkpoint

    write_tokenizer(tmp_path / "tokenizer")
    plain, nvme = run_ranks(2, _fits, str(tmp_path), out=tmp_path / "out")[0].values()
    assert nvme["resumed_at"] == 3
    assert nvme["train_loss"] == pytest.approx(plain["train_loss"], abs=2e-6)
    assert list((tmp_path / "disk").iterdir()) == []

    run = Folder(str(tmp_path / "nvme/tiny"))
    checkpoint, target = run / "checkpoints" / nvme["progress"]["best_export"], Folder(str(tmp_path / "exported"))
    manifest = read_manifest(checkpoint)
    assert manifest is not None
    export_checkpoint(run, checkpoint, manifest, target)
    files = (tmp_path / "nvme/tiny/model/model.safetensors", tmp_path / "exported/model.safetensors")
    gathered, read = map(load_file, files)
    assert gathered.keys() == read.keys()
    assert all(torch.equal(gathered[key], read[key]) for key in gathered)


def test_where_it_cannot_be_compiled_the_message_says_what_to_install() -> None:
    done = _load_async_io({"LDFLAGS": "-lthere_is_no_such_library"})
    if done.returncode == 0:
        pytest.skip("async_io was compiled while installing: nothing is compiled here that could fail")
    assert "apt-get install libaio-dev" in done.stderr.splitlines()[-1]
