"""What runs in the processes that meet as ranks: process groups, over the interfaces that a training would take."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cluster.interface import interface_of, name_interface

__all__ = ["Meeting", "Way", "exchange", "in_group", "listen", "way_of"]

_BYTES = 4 * 2**20
_stores: dict[int, Any] = {}
"""Of this process, by port: where it is rank 0 of a group that has not met yet."""


@dataclass(frozen=True)
class Meeting:
    """Where the ranks of a group meet, and how they exchange; `backend` is torch's."""

    host: str
    port: int
    backend: str
    world_size: int
    within_s: float


@dataclass(frozen=True)
class Way:
    """Over what a process would exchange with others.

    Attributes:
        interface: The network interface with the node's address in Ray; empty where there is none.
        named: What the environment names for gloo and NCCL, by variable: gloo's interface is named if nobody did.
        lookup_s: Seconds that it takes to look up the name of the node's address. Torch does so at each meeting.
    """

    interface: str
    named: dict[str, str]
    lookup_s: float


def way_of(address: str) -> Way:
    """The way of this process on the node with that address. Imports torch, which those that follow need."""
    import torch.distributed  # noqa: F401  # while nobody waits for the others

    name_interface(address)
    variables = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
    named = {name: os.environ[name] for name in variables if name in os.environ}
    return Way(interface_of(address), named, _lookup_s(address))


def _lookup_s(address: str) -> float:
    """How long it takes to find a name, or that there is none; asked as torch does, whose sockets are of IPv6."""
    began = time.monotonic()
    with suppress(OSError):
        socket.getnameinfo((address if ":" in address else f"::ffff:{address}", 0, 0, 0), 0)
    return time.monotonic() - began


def listen(host: str, world_size: int) -> int:
    """Be rank 0 of a group that will meet here; the port."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # exported, but not in its list

    store = TCPStore(host, 0, world_size, is_master=True, wait_for_workers=False)
    _stores[store.port] = store
    return int(store.port)


@contextmanager
def in_group(rank: int, meeting: Meeting) -> Iterator[None]:
    """In the default process group of a meeting, for the time of a `with` block. Raises what torch raises."""
    from torch import cuda, distributed

    within, store = timedelta(seconds=meeting.within_s), _store(rank, meeting)
    if meeting.backend == "nccl":
        cuda.set_device(0)  # Ray shows each its own alone
    distributed.init_process_group(
        meeting.backend, store=store, rank=rank, world_size=meeting.world_size, timeout=within
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()


def exchange(rank: int, meeting: Meeting) -> float:
    """Sum 4 MiB over the ranks of a meeting; seconds of the second time, the first one connects. A collective.

    Its group is none that torch knows by name: of one that failed nothing is left for the next.
    """
    import torch

    group, device = _group(rank, meeting), "cuda" if meeting.backend == "nccl" else "cpu"
    seconds = 0.0
    for _ in range(2):
        values = torch.ones(_BYTES // 4, device=device)
        began = time.monotonic()
        group.allreduce([values]).wait()
        total = float(values.sum())
        seconds = time.monotonic() - began
        expected = meeting.world_size * (_BYTES // 4)
        if total != expected:
            raise ValueError(f"the sum over the ranks is {total:g}, where {expected} is right")
    return seconds


def _group(rank: int, meeting: Meeting) -> Any:
    """What torch itself makes for a backend."""
    from torch import cuda, distributed

    within = timedelta(seconds=meeting.within_s)
    if meeting.backend == "nccl":
        cuda.set_device(0)  # Ray shows each its own alone
        options = distributed.ProcessGroupNCCL.Options()
        options._timeout = within
        return distributed.ProcessGroupNCCL(_store(rank, meeting), rank, meeting.world_size, options)
    return distributed.ProcessGroupGloo(_store(rank, meeting), rank, meeting.world_size, within)


def _store(rank: int, meeting: Meeting) -> Any:
    """Where the ranks tell each other how they are reached."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # exported, but not in its list

    if rank == 0:
        return _stores.pop(meeting.port)
    within = timedelta(seconds=meeting.within_s)
    return TCPStore(meeting.host, meeting.port, meeting.world_size, is_master=False, timeout=within)
