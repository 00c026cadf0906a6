"""Runs a function on several ranks of a gloo process group, without Ray."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed, multiprocessing


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def enter_rank(
    rank: int, world_size: int, port: int, function: Callable[..., Any], args: tuple[Any, ...], out: str
) -> None:
    """Runs a function as one rank, and saves what it returned."""
    os.environ |= {
        "DS_ACCELERATOR": "cpu",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "LOCAL_SIZE": str(world_size),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=world_size)
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
