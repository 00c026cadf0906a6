"""The engine against a plain PyTorch loop, and checkpoints in fragments, on real ranks."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from llmcore.records import Writer
from llmcore.storage import Folder, read_manifest
from tests.engines import NUM_STEPS, plain_losses, steps, tiny_engine, tiny_model, tiny_settings
from tests.ranks import run_ranks


def _train_save_reload(root: str) -> dict[int, dict[str, Any]]:
    from llmcore.train.checkpoint import load_checkpoint, save_checkpoint
    from llmcore.train.kept import newest_checkpoint
    from llmcore.train.progress import Progress

    found: dict[int, dict[str, Any]] = {}
    for stage in (0, 1, 2, 3):
        checkpoints = Folder(f"{root}/stage-{stage}")
        engine = tiny_engine(stage)
        losses = steps(engine, 0, 3)
        save_checkpoint(engine, checkpoints, Progress(step=3, tokens_seen=11), attempt=1)
        losses += steps(engine, 3, NUM_STEPS)
        weights: dict[str, torch.Tensor] = {}
        engine.let_go()
        for name, parameter in engine.model.named_parameters():
            with engine.whole(parameter) as tensor:
                weights[name] = tensor.detach().clone()
        found[stage] = {"losses": losses, "weights": weights}
        engine = tiny_engine(stage)
        newest = newest_checkpoint(checkpoints, [], Writer(1)).checkpoint
        assert newest is not None
        progress = load_checkpoint(engine, *newest)
        found[stage] |= {"progress": progress, "resumed": steps(engine, 3, NUM_STEPS)}
    return found


def _resume_in_bf16(root: str) -> tuple[list[float], list[float]]:
    from llmcore.train.checkpoint import load_checkpoint, save_checkpoint
    from llmcore.train.kept import newest_checkpoint
    from llmcore.train.progress import Progress

    engine, checkpoints = tiny_engine(2, "bf16"), Folder(root)
    losses = steps(engine, 0, 3)
    save_checkpoint(engine, checkpoints, Progress(step=3, tokens_seen=11), attempt=1)
    losses += steps(engine, 3, NUM_STEPS)
    engine = tiny_engine(2, "bf16")
    newest = newest_checkpoint(checkpoints, [], Writer(1)).checkpoint
    assert newest is not None
    load_checkpoint(engine, *newest)
    return losses, steps(engine, 3, NUM_STEPS)


def _reload_elsewhere(root: str) -> dict[tuple[int, int], list[float]]:
    """What each stage's checkpoint gives at each other stage, at this world size."""
    from llmcore.train.checkpoint import load_checkpoint

    found = {}
    for written, read in itertools.product((0, 1, 2, 3), (0, 2, 3)):
        folder = Folder(f"{root}/stage-{written}/step-00000003-attempt-01")
        manifest = read_manifest(folder)
        assert manifest is not None
        engine = tiny_engine(read)
        load_checkpoint(engine, folder, manifest)
        found[written, read] = steps(engine, 3, NUM_STEPS)
    return found


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, dict[str, Any]]]:
    root = tmp_path_factory.mktemp("checkpoints")
    results = run_ranks(2, _train_save_reload, str(root), out=root / "out")
    assert all(results[0][stage]["losses"] == results[1][stage]["losses"] for stage in results[0])
    return root, results[0]


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_losses_equal_a_plain_loop(two_ranks: tuple[Path, dict[int, dict[str, Any]]], stage: int) -> None:
    assert two_ranks[1][stage]["losses"] == pytest.approx(plain_losses(), abs=2e-6)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_resumed_losses_are_the_same_bit_for_bit(two_ranks: tuple[Path, dict[int, dict[str, Any]]], stage: int) -> None:
    found = two_ranks[1][stage]
    assert found["resumed"] == found["losses"][3:]
    assert (found["progress"].step, found["progress"].tokens_seen) == (3, 11)


def test_in_bf16_resumed_losses_are_the_same_to_a_thousandth(tmp_path: Path) -> None:
    """Whether the hardware has bf16 or emulates it."""
    losses, resumed = run_ranks(2, _resume_in_bf16, str(tmp_path / "checkpoints"), out=tmp_path)[0]
    assert resumed == pytest.approx(losses[3:], abs=1e-3)
    assert losses == pytest.approx(plain_losses(), abs=0.05)
    assert losses != pytest.approx(plain_losses(), abs=1e-6), "it is bf16"


def test_exported_weights_are_whole_at_every_stage(two_ranks: tuple[Path, dict[int, dict[str, Any]]]) -> None:
    reference = two_ranks[1][0]["weights"]
    for stage in (1, 2, 3):
        for name, tensor in two_ranks[1][stage]["weights"].items():
            assert torch.allclose(tensor, reference[name], atol=1e-5), (stage, name)


def test_any_stage_reads_any_stage_at_another_world_size(
    two_ranks: tuple[Path, dict[int, dict[str, Any]]], tmp_path: Path
) -> None:
    root, found = two_ranks
    [elsewhere] = run_ranks(1, _reload_elsewhere, str(root), out=tmp_path)
    for (written, _read), losses in elsewhere.items():
        assert losses == pytest.approx(found[written]["losses"][3:], abs=2e-6)


def _learning_rates(folder: str) -> list[float]:
    from llmcore.models.build import build_classifier
    from llmcore.tasks.text_classification import ClassExample, TextClassification
    from llmcore.train.engine import Engine

    optimizer = {"learning_rate": 1e-3, "head_learning_rate_factor": 10}
    engine = Engine(
        build_classifier(Path(folder), label_names=["a", "b"], seed=0, random_weights=False),
        TextClassification(8, "macro_f1", ("a", "b")),
        tiny_settings(2, global_batch_size=1, optimizer=optimizer, schedule={"kind": "constant", "warmup_fraction": 0}),
        num_steps=NUM_STEPS,
        precision="fp32",
        device=torch.device("cpu"),
    )
    before = engine.model.score.weight.detach().clone()
    example = [engine.objective.collate([ClassExample([5, 6, 0], 0, (1,))])]
    for step in range(3):
        engine.step(step, example)
    groups = engine.zero_optimizer.param_groups
    moved = float((engine.model.score.weight.detach() - before).abs().max())
    return [*sorted({group["lr"] for group in groups}), moved]


def test_a_head_learns_at_its_own_rate(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path / "base")  # type: ignore[operator]
    [(slow, fast, moved)] = run_ranks(1, _learning_rates, str(tmp_path / "base"), out=tmp_path)
    assert (slow, fast) == pytest.approx((1e-3, 1e-2))
    assert moved > 0.005  # three steps of Adam at 1e-3 move a weight by 0.003 at most
