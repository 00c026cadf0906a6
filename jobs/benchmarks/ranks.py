"""Ranks of a gloo process group on this machine, without Ray: what a loop alone costs."""

import io
import os
import socket
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, spawn

from cluster.connect import worker_environment
from llmcore.errors import RunError

__all__ = ["free_port", "join_ranks", "run_ranks", "silenced"]


def run_ranks(world_size: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """What `function(*args)` returns on each rank, a process with one thread. Raises RunError, naming the rank."""
    with tempfile.TemporaryDirectory() as out:
        try:
            spawn(  # type: ignore[no-untyped-call]  # as daemons, they end with this process
                _enter, (world_size, free_port(), function, args, out), nprocs=world_size, daemon=True
            )
        except (ProcessRaisedException, ProcessExitedException) as error:
            reason = str(error).strip().rsplit("\n", 1)[-1]  # the rest is the rank's traceback
            raise RunError(f"rank {error.error_index} failed: {reason}; --verbose shows where") from error
        return [torch.load(Path(out, f"{rank}.pt"), weights_only=False) for rank in range(world_size)]  # nosec B614


def _enter(
    rank: int, world_size: int, port: int, function: Callable[..., Any], args: tuple[Any, ...], out: str
) -> None:
    os.environ |= {**worker_environment(local=True), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    join_ranks(rank, world_size, port)
    torch.save(function(*args), Path(out, f"{rank}.pt"))
    distributed.barrier()
    distributed.destroy_process_group()


def join_ranks(rank: int, world_size: int, port: int) -> None:
    """Make this process a rank of one thread of a gloo group on this machine; before DeepSpeed is imported."""
    os.environ |= {
        "DS_ACCELERATOR": "cpu",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "LOCAL_SIZE": str(world_size),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=world_size)


def silenced(*, verbose: bool) -> AbstractContextManager[Any]:
    """DeepSpeed prints what it has built; within this it does not, unless that is wanted."""
    return nullcontext() if verbose else redirect_stdout(io.StringIO())


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
