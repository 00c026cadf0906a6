"""Runs a function on several ranks of a gloo process group, without Ray."""

import ctypes
import gc
import importlib
import multiprocessing as standard
import os
import signal
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import distributed, multiprocessing

from jobs.benchmarks.ranks import free_port, join_ranks

__all__ = ["enter_rank", "free_port", "in_nursery", "run_ranks"]

_IMPORTED = (
    *("llmcore.train.finetuning", "llmcore.train.fit", "llmcore.train.pretraining"),
    *("deepspeed.comm.torch", "deepspeed.runtime.zero.muon.muon_optimizer"),  # DeepSpeed imports them late
)
"""What takes a rank ten seconds."""
_PR_SET_PDEATHSIG = 1


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
    in_nursery(_fork_ranks, dict(os.environ), sys.path, (world_size, port, function, args, str(out)))
    left = list(Path("/dev/shm").glob(f"deepspeed_*_{port}_*"))
    assert not left, f"shared memory that nobody takes away: {left}"
    return [torch.load(out / f"{rank}.pt", weights_only=False) for rank in range(world_size)]


def _fork_ranks(
    environment: Mapping[str, str], path: list[str], given: tuple[int, int, Callable[..., Any], Any, str]
) -> None:
    """Makes this process what the test's is by now."""
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = path
    multiprocessing.start_processes(enter_rank, given, nprocs=given[0], join=True, start_method="fork")


def in_nursery(function: Callable[..., Any], *args: Any) -> Any:
    """What a function returns in a process that has imported everything, and does nothing but have processes forked."""
    try:
        return _nursery().submit(function, *args).result()
    except BaseException:  # a test whose time is over, too: nobody may wait behind what it has left at work
        for process in list((_nursery()._processes or {}).values()):
            process.kill()
        _nursery.cache_clear()
        raise


@cache
def _nursery() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=standard.get_context("spawn"), initializer=_import)


def _import() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # it ends with its maker, whatever ends that
    os.environ["DS_ACCELERATOR"] = "cpu"  # it is read at an import
    for name in _IMPORTED:
        importlib.import_module(name)
    sys.modules["deepspeed.comm.torch"].build_shm_op()
    gc.collect()
    gc.freeze()  # what is there stays shared
