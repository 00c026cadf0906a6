"""The process group of a run's workers, which they form themselves.

Ray's own `TorchConfig` would form it from outside, and bring torch into the controller and into each trial's driver: an
import of two CPU-seconds in each, one after the other, before the first worker starts.
"""

import os
from datetime import timedelta

import ray.train
from ray.train.backend import Backend, BackendConfig
from ray.train.collective import broadcast_from_rank_zero

from cluster.interface import name_interface

__all__ = ["FormedByWorkers", "form_process_group", "leave_process_group"]

_COLLECTIVE_WITHIN = timedelta(minutes=30)


class _SharedDevices(Backend):  # type: ignore[misc]  # Ray is not typed
    share_cuda_visible_devices = True
    """Each worker sees all GPUs that the run has on its node: NCCL and DeepSpeed tell them apart by the local rank."""


class FormedByWorkers(BackendConfig):  # type: ignore[misc]
    """For a Ray Train trainer: nothing is done to the workers but that they see their node's GPUs."""

    @property
    def backend_cls(self) -> type[Backend]:
        """What Ray Train asks for."""
        return _SharedDevices


def form_process_group(backend: str) -> None:
    """Join all workers of the run; every one of them calls it. `backend` is torch's: nccl or gloo.

    Rank 0 listens at a port that is free because it holds it, and tells the others where.
    """
    from torch import distributed
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # exported, but not in its list

    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    store, host = None, ray.util.get_node_ip_address()
    name_interface(host)
    if rank == 0:
        store = TCPStore(host, 0, world_size, is_master=True, wait_for_workers=False)
    host, port = broadcast_from_rank_zero((host, store.port) if store else None)
    # The names that torchrun gives, which DeepSpeed and its shared-memory op look for.
    # https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(context.get_local_rank()),
        "LOCAL_WORLD_SIZE": str(context.get_local_world_size()),
        "NODE_RANK": str(context.get_node_rank()),
        "MASTER_ADDR": host,
        "MASTER_PORT": str(port),
    }
    distributed.init_process_group(
        backend,
        store=store or TCPStore(host, port, world_size, is_master=False),
        rank=rank,
        world_size=world_size,
        timeout=_COLLECTIVE_WITHIN,
    )


def leave_process_group() -> None:
    """Take leave of the other workers, once all have ended well; after a failure the process ends anyway."""
    from torch import distributed

    distributed.destroy_process_group()
