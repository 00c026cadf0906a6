"""Runs a function on several ranks of a gloo process group, without Ray."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed, multiprocessing

from jobs.benchmarks.ranks import free_port, join_ranks

__all__ = ["enter_rank", "free_port", "run_ranks"]


def enter_rank(
    rank: int, world_size: int, port: int, function: Callable[..., Any], args: tuple[Any, ...], out: str
) -> None:
    """Runs a function as one rank, and saves what it returned."""
    os.environ["OMP_NUM_THREADS"] = "1"
    join_ranks(rank, world_size, port)
    torch.save(function(*args), f"{out}/{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


def run_ranks(world_size: int, function: Callable[..., Any], *args: Any, out: Path) -> list[Any]:
    """What `function(*args)` returned on each rank."""
    out.mkdir(parents=True, exist_ok=True)
    port = free_port()
    multiprocessing.spawn(enter_rank, args=(world_size, port, function, args, str(out)), nprocs=world_size, join=True)
    left = list(Path("/dev/shm").glob(f"deepspeed_*_{port}_*"))
    assert not left, f"shared memory that nobody takes away: {left}"
    return [torch.load(out / f"{rank}.pt", weights_only=False) for rank in range(world_size)]
