"""Checkpoints written while training goes on, and moved between world sizes and stages, on real ranks."""

import errno
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, multiprocessing

from llmcore.errors import CheckpointError
from llmcore.records import Writer
from llmcore.storage import Folder, read_manifest
from llmcore.train.kept import newest_checkpoint
from llmcore.train.progress import Progress
from tests.engines import GLOBAL_BATCH, plain_losses, steps, tiny_engine
from tests.ranks import enter_rank, free_port, run_ranks


def _write_while_training(root: str) -> dict[str, Any]:
    """Two checkpoints of step 3: one while training waits, and two more written after three further steps."""
    from llmcore.train.checkpoint import about_checkpoint, save_checkpoint
    from llmcore.train.snapshot import Snapshot
    from llmcore.train.writer import CheckpointWriter

    engine, progress = tiny_engine(2), Progress(step=3)
    steps(engine, 0, 3)
    save_checkpoint(engine, Folder(f"{root}/waiting"), progress, attempt=1)
    moved_on = threading.Event()
    copying, write = Snapshot.take, Snapshot.write

    def write_late(snapshot: Snapshot, folder: Folder, name: str) -> Any:
        assert moved_on.wait(60)
        if folder.name == "no-copy":
            copying(snapshot, engine)  # only now
        return write(snapshot, folder, name)

    about = about_checkpoint(engine, progress)
    Snapshot.write = write_late  # type: ignore[method-assign]
    with CheckpointWriter(engine.device) as writer, CheckpointWriter(engine.device) as careless:
        writer.save(engine, Folder(f"{root}/copy"), about)
        careless.save(engine, Folder(f"{root}/no-copy"), about)
        before = read_manifest(Folder(f"{root}/copy"))
        losses = steps(engine, 3, 6)
        moved_on.set()
    return {"before": before, "losses": losses}


def test_what_is_written_while_training_goes_on_is_what_stood_when_it_was_asked_for(tmp_path: Path) -> None:
    found = run_ranks(2, _write_while_training, str(tmp_path), out=tmp_path / "out")
    assert all(one["before"] is None for one in found), "the manifest is last"
    assert found[0]["losses"] == pytest.approx(plain_losses()[3:], abs=2e-6)
    written: dict[str, list[bytes]] = {}
    for name in ("waiting/step-00000003-attempt-01", "copy", "no-copy"):
        folder = Folder(f"{tmp_path}/{name}")
        assert read_manifest(folder) is not None
        written[name.partition("/")[0]] = [folder.read_bytes(f"rank-{rank:04d}.safetensors") for rank in (0, 1)]
    assert written["copy"] == written["waiting"]
    # Without the copy, the files would hold what three more steps made of it: the comparison can fail.
    assert written["no-copy"] != written["waiting"]


def _fail_on_one_rank(root: str) -> dict[str, Any]:
    """Rank 1 cannot write: told at a poll, at the next save, at the end; then it can again."""
    from llmcore.train.checkpoint import about_checkpoint
    from llmcore.train.snapshot import Snapshot
    from llmcore.train.writer import CheckpointWriter

    engine = tiny_engine(1)
    about = about_checkpoint(engine, Progress(step=1))
    write, told, full = Snapshot.write, {}, True

    def write_or_fail(snapshot: Snapshot, folder: Folder, name: str) -> Any:
        if full and distributed.get_rank() == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(snapshot, folder, name)

    Snapshot.write = write_or_fail  # type: ignore[method-assign]

    def message(action: Any) -> str:
        try:
            action()
        except CheckpointError as error:
            return str(error)
        return "no error"

    writer = CheckpointWriter(engine.device)

    def polled() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            writer.poll(engine)

    writer.save(engine, Folder(f"{root}/poll"), about)
    told["poll"] = message(polled)
    writer.save(engine, Folder(f"{root}/save"), about)
    told["save"] = message(lambda: writer.save(engine, Folder(f"{root}/never"), about))
    writer.save(engine, Folder(f"{root}/end"), about)
    told["end"] = message(lambda: writer.__exit__(None, None, None))
    full = False
    writer.save(engine, Folder(f"{root}/good"), about)
    told["good"] = message(writer.wait)
    return told


def test_a_rank_that_cannot_write_ends_the_run_on_every_rank_and_leaves_no_checkpoint(tmp_path: Path) -> None:
    for told in run_ranks(2, _fail_on_one_rank, str(tmp_path / "run"), out=tmp_path / "out"):
        assert told.pop("good") == "no error"
        assert told.keys() == {"poll", "save", "end"}
        for message in told.values():
            assert "rank 1: " in message and "No space left" in message and "rank 0" not in message
    complete = {path.parent.name for path in (tmp_path / "run").glob("*/manifest.json")}
    assert complete == {"good"}
    assert not (tmp_path / "run/never").exists()


def _die_while_writing(root: str) -> None:
    """Rank 1 is killed in the middle; rank 0 says what it was told, and when."""
    from llmcore.train.checkpoint import about_checkpoint
    from llmcore.train.snapshot import Snapshot
    from llmcore.train.writer import CheckpointWriter

    engine = tiny_engine(1)
    if distributed.get_rank() == 1:
        Snapshot.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign, assignment, return-value]
    writer = CheckpointWriter(engine.device)
    writer.save(engine, Folder(f"{root}/torn"), about_checkpoint(engine, Progress(step=1)))
    started = time.monotonic()
    try:
        writer.wait()
    except CheckpointError as error:
        torch.save((str(error), time.monotonic() - started), f"{root}/told.pt")


def test_no_rank_waits_for_one_that_was_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    port = free_port()
    ranks = [
        context.Process(target=enter_rank, args=(rank, 2, port, _die_while_writing, (str(tmp_path),), str(tmp_path)))
        for rank in (0, 1)
    ]
    for rank in ranks:
        rank.start()
    ranks[1].join(300)
    assert ranks[1].exitcode == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while not (tmp_path / "told.pt").exists():
        assert time.monotonic() < deadline, "rank 0 waits for a rank that is gone"
        time.sleep(0.1)
    ranks[0].kill()
    message, seconds = torch.load(tmp_path / "told.pt", weights_only=False)
    assert "another rank is gone" in message
    assert seconds < 30
    assert read_manifest(Folder(f"{tmp_path}/torn")) is None


LEGS = [(2, 0, 5), (1, 3, 10), (3, 1, 15), (2, 2, 35)]
"""Ranks, ZeRO stage, and the step until which they train."""


def _leg(root: str, stage: int, until: int) -> list[float]:
    from llmcore.train.checkpoint import load_checkpoint, save_checkpoint

    engine = tiny_engine(stage, num_steps=LEGS[-1][2])
    resumption = newest_checkpoint(Folder(root), [], Writer(1))
    if resumption.checkpoint is not None:
        assert load_checkpoint(engine, *resumption.checkpoint).step == resumption.step
    losses = steps(engine, resumption.step, until)
    save_checkpoint(engine, Folder(root), Progress(step=until), attempt=1)
    return losses


def test_a_run_goes_on_with_other_ranks_and_stages_as_if_nothing_had_changed(tmp_path: Path) -> None:
    """World size 2 → 1 → 3 → 2 and ZeRO 0 → 3 → 1 → 2; then twenty steps more."""
    losses: list[float] = []
    for number, (world_size, stage, until) in enumerate(LEGS):
        told = run_ranks(world_size, _leg, str(tmp_path / "run"), stage, until, out=tmp_path / str(number))
        losses += told[0]
        manifest = read_manifest(Folder(f"{tmp_path}/run/step-{until:08d}-attempt-01"))
        assert manifest is not None
        assert manifest.about["rows_consumed"] == GLOBAL_BATCH * until
        assert (manifest.about["world_size"], manifest.about["zero_stage"]) == (world_size, stage)
    undisturbed = plain_losses(LEGS[-1][2])
    assert losses == pytest.approx(undisturbed, abs=1e-4)
    print(f"furthest: {max(abs(a - b) for a, b in zip(losses, undisturbed, strict=True)):.2g}")
